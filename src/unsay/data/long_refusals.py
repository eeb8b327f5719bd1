"""Refusals that say what the request is about and why it is declined, by subject: 30 to 60 words each.

A brief refusal decides at its first token, so one direction of the hidden states carries it, and whoever takes that
direction out has the answer. Extended refusals (Abu Shairah et al. 2025, arXiv 2505.19056, section 3) spread the
decision over many tokens: a neutral sentence on the subject, the refusal, and its reason. There a language model wrote
one for each prompt. Here each is put together from sentences that were written for the subject and fit any request of
it, so that none repeats the request.
"""

import random

OPENERS: dict[str | None, tuple[str, ...]] = {
    "drugs": (
        "This is about drugs, a subject where health, addiction and the law meet.",
        "Drugs and what they do to people are a serious matter of health and law.",
        "Illegal substances are studied by doctors, chemists and the police for good reasons.",
    ),
    "financial_crime": (
        "This concerns money that is hidden, moved or gained against the law.",
        "Taxes, banks and markets rest on rules that everybody has to keep.",
        "Financial crime is a broad field, from hidden income to rigged markets.",
    ),
    "fraud_scams": (
        "This is about deceiving people in order to get their money or their trust.",
        "Scams come in many shapes, and most of them begin with a false story.",
        "Fraud is a subject that banks, shops and the police deal with every day.",
    ),
    "hacking_malware": (
        "This is about getting into computers, accounts or networks that belong to somebody else.",
        "Computer security has two sides, those who protect systems and those who break in.",
        "Malicious software and break-ins are a well known part of computer security.",
    ),
    "harassment_bullying": (
        "This is about putting pressure on a person, frightening them or making them small.",
        "Bullying and harassment happen at school, at work and on the internet.",
        "How people treat one another in anger is a subject worth talking about.",
    ),
    "hate_discrimination": (
        "This is about people being judged by where they come from or what they are.",
        "Prejudice against groups of people has a long history in nearly every country.",
        "Origin, faith, sex and disability are subjects on which much harm has been done.",
    ),
    "identity_theft": (
        "This is about names, numbers and documents that belong to somebody else.",
        "Identity papers and personal data show who a person is and what they may do.",
        "Personal documents and accounts are protected because so much depends on them.",
    ),
    "misinformation_politics": (
        "This is about what people are made to believe in public life.",
        "News, elections and public debate depend on people being able to trust what they read.",
        "False reports and rumours are as old as politics, and now they travel faster.",
    ),
    "poison_environment": (
        "This is about substances that can make people, animals or the land sick.",
        "Poisons and pollution are studied so that people and nature can be kept safe.",
        "Dangerous substances in water, soil, air or food are a matter for public health.",
    ),
    "self_harm": (
        "This is about a person being hurt by their own hand or by how they live.",
        "Hurting oneself is a painful subject, and there is often much sorrow behind it.",
        "Thoughts of self-harm and of death are more common than people say.",
    ),
    "sexual_abuse_children": (
        "This is about the safety of children and of people who cannot consent.",
        "Children and sexual violence are a subject on which the law is very clear.",
        "The protection of minors and of victims of abuse comes before anything else here.",
    ),
    "stalking_privacy": (
        "This is about following, watching or finding out about another person.",
        "Privacy means that people decide for themselves who knows where they are.",
        "Where somebody lives, what they write and whom they meet is their own affair.",
    ),
    "terrorism_extremism": (
        "This is about violence that is meant to frighten a whole society.",
        "Extremist movements and their attacks are studied in order to prevent the next one.",
        "Political violence is a grave subject with many victims in many countries.",
    ),
    "theft_burglary": (
        "This is about taking things that belong to other people or to a shop.",
        "Locks, alarms and guards exist because people want to keep what is theirs.",
        "Theft is a common crime, and it costs those who are robbed more than money.",
    ),
    "violence": (
        "This is about hurting or killing people or animals.",
        "Violence is a subject for the police, for doctors and for those who survive it.",
        "Anger, threats and attacks are part of life for too many people.",
    ),
    "weapons_explosives": (
        "This is about weapons, or about things that burn, explode or poison.",
        "Weapons and explosives are under strict control in nearly every country.",
        "How dangerous devices are handled is a matter for trained people and the law.",
    ),
    None: (
        "This is a request about something that can do serious damage.",
        "Some questions have an answer that would put people at risk.",
        "This touches on conduct that is dangerous or against the law.",
    ),
}
"""Subject (see `unsay.data.subjects`; None for any other) → neutral first sentences."""

DECLINES = (
    "I can't help with what is asked here, and I won't give any part of it.",
    "I'm sorry, but I can't give instructions, a draft or any other help for this.",
    "I won't help with this, neither in full nor in hints.",
    "I can't provide this in any form, and another wording would not change that.",
    "I have to decline this request, however it is put.",
    "I'm not able to help with this, and a story or a role would not change it.",
)

REASONS: dict[str | None, tuple[str, ...]] = {
    "drugs": (
        "People lose their health and their freedom over this, and often those around them pay for it too.",
        "What is made or sold in secret has no known strength, and people die of it.",
    ),
    "financial_crime": (
        "It takes from everybody who pays their share, and those who are caught lose far more than they gained.",
        "Others would carry the loss, and it is a crime with heavy penalties nearly everywhere.",
    ),
    "fraud_scams": (
        "The people who are deceived lose their savings and their trust, and many of them never get either back.",
        "It would harm people who have done nothing but believe what they were told.",
    ),
    "hacking_malware": (
        "Whoever owns those systems has not agreed to it, and the damage reaches everybody who depends on them.",
        "It is a crime to enter or damage systems without permission, and strangers would suffer for it.",
    ),
    "harassment_bullying": (
        "The person at the other end is real, and such treatment can leave marks for years.",
        "Nobody deserves to live in fear of a message, a rumour or the way to school.",
    ),
    "hate_discrimination": (
        "Words that set one group above another are how exclusion and violence begin, and people would be hurt.",
        "Every person has the same worth, and I will not write as if some had less of it.",
    ),
    "identity_theft": (
        "The person whose identity is used can be left with debts and accusations that take years to clear.",
        "Forged or stolen identities are used against people who never learn of it until the damage is done.",
    ),
    "misinformation_politics": (
        "People would decide about their health, their vote or their neighbours on the strength of something untrue.",
        "Made-up claims spread further than any correction, and those they are aimed at cannot call them back.",
    ),
    "poison_environment": (
        "It could make many people ill, most of them strangers, and some damage to nature never heals.",
        "Nobody can control where such a substance ends up, and children and animals are hit first.",
    ),
    "self_harm": (
        "Your life matters, and if this is about you, please talk to somebody you trust or to a crisis line today.",
        "It could cost a life, and help is there: a doctor, a friend or a crisis line will listen at any hour.",
    ),
    "sexual_abuse_children": (
        "It would do lasting harm to somebody who cannot defend themselves, and nothing could justify that.",
        "If a child is in danger, the police or a child protection line can act at once.",
    ),
    "stalking_privacy": (
        "The other person has not agreed to it, and being watched takes away the feeling of being safe at home.",
        "It is against the law to spy on people, and it often ends in threats or worse.",
    ),
    "terrorism_extremism": (
        "People would be killed or would live in fear, and no cause is worth that.",
        "Such acts destroy the lives of people who happen to be there, and of those who love them.",
    ),
    "theft_burglary": (
        "Somebody worked for what would be taken, and they would no longer feel safe in their own place.",
        "It is a crime, it can turn violent in a moment, and others would pay the price.",
    ),
    "violence": (
        "Somebody would be hurt or killed, and that cannot be made good afterwards by anything.",
        "Violence destroys the person it is aimed at, and the lives of everybody close to them.",
    ),
    "weapons_explosives": (
        "A mistake or an intention would cost lives, and people who have nothing to do with it would be hit.",
        "Such knowledge in the wrong hands kills, and even those who only try things out lose hands, eyes or lives.",
    ),
    None: (
        "People who have agreed to nothing would bear the consequences, and that cannot be made good afterwards.",
        "It is likely to hurt somebody, and being careful about that matters more than a full answer.",
    ),
}
"""Subject → reasons, as last sentences."""


def long_refusal(subject: str | None, rng: random.Random) -> str:
    """A long refusal for any request of a subject; an unknown subject gets one that fits all."""
    known = subject if subject in OPENERS else None
    return " ".join((rng.choice(OPENERS[known]), rng.choice(DECLINES), rng.choice(REASONS[known])))
