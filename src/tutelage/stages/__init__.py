"""The stages, one short file each; `STAGES` is the whole list. A stage's code is loaded only to run it."""

from __future__ import annotations

from tutelage.run.artifacts import ArtifactType as A
from tutelage.run.stage import StageSpec
from tutelage.stages import configs as c

STAGES: dict[str, StageSpec] = {
    "atlas": StageSpec(
        c.AtlasConfig,
        {"documents": A.DOCUMENTS, "conversations": A.CONVERSATIONS, "prompts": A.PROMPTS, "tasks": A.TASKS},
        "Write a small labelled web with conversations, prompts and held-out tasks: no download.",
    ),
    "documents": StageSpec(c.DocumentsConfig, {"": A.DOCUMENTS}, "Read documents from files, folders and tables."),
    "conversations": StageSpec(
        c.ConversationsConfig, {"": A.CONVERSATIONS}, "Read conversations from files; the format is detected."
    ),
    "preferences": StageSpec(
        c.PreferencesConfig, {"": A.PREFERENCES}, "Read preference pairs from files; the format is detected."
    ),
    "prompts": StageSpec(c.PromptsConfig, {"": A.PROMPTS}, "Take the prompts of conversations."),
    "curate": StageSpec(
        c.CurateConfig, {"": A.CORPUS}, "Clean documents: quality, duplicates, private strings, spam, harm, leaks."
    ),
    "tokenizer": StageSpec(c.TokenizerConfig, {"": A.TOKENIZER}, "Make a tokenizer of a corpus."),
    "tokenize": StageSpec(c.TokenizeConfig, {"": A.TOKENS}, "Turn a corpus into training and validation tokens."),
    "pretrain": StageSpec(
        c.PretrainConfig, {"": A.MODEL}, "Train a base model, from random weights or on from another."
    ),
    "stored": StageSpec(
        c.StoredConfig, {"": A.CONVERSATIONS}, "Take stored completions of served models as conversations."
    ),
    "tools": StageSpec(
        c.ToolsConfig,
        {"conversations": A.CONVERSATIONS, "tasks": A.TASKS},
        "Write conversations with tool calls, and held-out items: generated, GSM8K, Seal-Tools.",
    ),
    "memory": StageSpec(
        c.MemoryConfig,
        {"drill": A.CONVERSATIONS, "conversations": A.CONVERSATIONS, "tasks": A.TASKS},
        "Write conversations in which a user is to be remembered, and held-out items.",
    ),
    "persona": StageSpec(
        c.PersonaConfig,
        {"conversations": A.CONVERSATIONS, "preferences": A.PREFERENCES, "tasks": A.TASKS},
        "Write conversations that keep to persona cards, pairs under pressure, and held-out items.",
    ),
    "canaries": StageSpec(
        c.CanariesConfig,
        {"documents": A.DOCUMENTS, "tasks": A.TASKS},
        "Plant random secrets in documents, to measure what a model keeps of them.",
    ),
    "privacy": StageSpec(
        c.PrivacyConfig,
        {"documents": A.DOCUMENTS, "conversations": A.CONVERSATIONS},
        "Write documents with other values for private strings, and refusals to give any away.",
    ),
    "honesty": StageSpec(
        c.HonestyConfig,
        {"conversations": A.CONVERSATIONS, "preferences": A.PREFERENCES, "tasks": A.TASKS},
        "Write conversations and pairs in which a model owns to what it does not know, and held-out items.",
    ),
    "redteam": StageSpec(
        c.RedteamConfig,
        {"attempts": A.COMPLETIONS, "conversations": A.CONVERSATIONS, "preferences": A.PREFERENCES, "tasks": A.TASKS},
        "Attack a model with wrapped requests; successes become training data, kinds of attack are held out.",
    ),
    "probes": StageSpec(
        c.ProbesConfig, {"": A.TASKS}, "Write the items on which toxicity and bias are measured, from files."
    ),
    "sft": StageSpec(c.SFTConfig, {"": A.MODEL}, "Fine-tune a model on conversations."),
    "distill": StageSpec(
        c.DistillConfig, {"": A.MODEL}, "Train a student on what a teacher says and expects; smaller than it, or not."
    ),
    "sample": StageSpec(c.SampleConfig, {"": A.COMPLETIONS}, "Draw several replies to every prompt."),
    "prefer": StageSpec(c.PreferConfig, {"": A.PREFERENCES}, "Compare replies: people, or a simulated annotator."),
    "constitution": StageSpec(
        c.ConstitutionConfig,
        {"critiques": A.CRITIQUES, "questions": A.QUESTIONS, "examples": A.CONVERSATIONS},
        "Read the principles that replies are to follow.",
    ),
    "revise": StageSpec(
        c.ReviseConfig,
        {"completions": A.COMPLETIONS, "conversations": A.CONVERSATIONS},
        "Criticise replies by principles and write them anew.",
    ),
    "judge": StageSpec(
        c.JudgeConfig, {"": A.PREFERENCES}, "Compare replies by principles, with a probability for each label."
    ),
    "lessons": StageSpec(
        c.LessonsConfig,
        {"examples": A.CONVERSATIONS, "problems": A.PROMPTS, "tasks": A.TASKS},
        "Write examples that teach a small model to make data, problems with answers, and held-out items.",
    ),
    "synthesize": StageSpec(
        c.SynthesizeConfig,
        {"": A.CONVERSATIONS},
        "Let a model make data: questions and answers, worked problems, conversations, rewritings, instructions.",
    ),
    "reward": StageSpec(c.RewardConfig, {"": A.REWARD_MODEL}, "Train a reward model on preference pairs."),
    "ppo": StageSpec(c.PPOConfig, {"": A.MODEL}, "Reinforcement learning from rewards with a critic, leashed by KL."),
    "grpo": StageSpec(
        c.GRPOConfig, {"": A.MODEL}, "Reinforcement learning from rewards relative to a group of replies."
    ),
    "rloo": StageSpec(
        c.RLOOConfig, {"": A.MODEL}, "Reinforcement learning by REINFORCE with a leave-one-out baseline."
    ),
    "dpo": StageSpec(c.DPOConfig, {"": A.MODEL}, "Optimise a model directly on preference pairs."),
    "kto": StageSpec(c.KTOConfig, {"": A.MODEL}, "Optimise a model on replies labelled desirable or not."),
    "orpo": StageSpec(
        c.ORPOConfig, {"": A.MODEL}, "Fine-tune on chosen replies and away from rejected ones, in one loss."
    ),
    "evaluate": StageSpec(c.EvaluateConfig, {"": A.RESULTS}, "Put models through the same held-out items."),
    "report": StageSpec(
        c.ReportConfig, {"": A.REPORT}, "Show the whole run on one page: report.html, report.json.", records_time=True
    ),
}
