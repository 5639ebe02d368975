"""The report: what a run raised, what every stage changed, and which claims it meets, on one page."""
