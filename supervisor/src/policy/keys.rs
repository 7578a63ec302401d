//! Tells whether an environment variable looks like the key of a known provider. The container's agent can read every
//! variable that it is given, so such a key is no secret from it. Only warnings rest on this: a key that nobody
//! recognises passes, and a harmless value that looks like one costs a sentence.

/// Where a character of a key may come from.
#[derive(Clone, Copy)]
enum Alphabet {
    /// Letters and digits.
    Alphanumeric,
    /// Capital letters and digits.
    Upper,
    /// Letters, digits, `-` and `_`.
    Url,
}

impl Alphabet {
    fn has(self, char: char) -> bool {
        match self {
            Self::Alphanumeric => char.is_ascii_alphanumeric(),
            Self::Upper => char.is_ascii_uppercase() || char.is_ascii_digit(),
            Self::Url => char.is_ascii_alphanumeric() || matches!(char, '-' | '_'),
        }
    }
}

/// Beginnings of keys: prefix, least length of the rest, its characters, whose it is. The first match counts, so longer
/// prefixes come before shorter ones.
const PREFIXES: [(&str, usize, Alphabet, &str); 31] = [
    ("sk-ant-", 20, Alphabet::Url, "Anthropic"),
    ("sk-or-", 20, Alphabet::Url, "OpenRouter"),
    ("sk-proj-", 20, Alphabet::Url, "OpenAI"),
    ("sk-svcacct-", 20, Alphabet::Url, "OpenAI"),
    ("sk-admin-", 20, Alphabet::Url, "OpenAI"),
    ("sk-", 20, Alphabet::Alphanumeric, "OpenAI, or a provider with keys of the same form"),
    ("AIza", 35, Alphabet::Url, "Google"),
    ("gsk_", 20, Alphabet::Alphanumeric, "Groq"),
    ("xai-", 20, Alphabet::Alphanumeric, "xAI"),
    ("pplx-", 20, Alphabet::Alphanumeric, "Perplexity"),
    ("csk-", 20, Alphabet::Alphanumeric, "Cerebras"),
    ("hf_", 20, Alphabet::Alphanumeric, "Hugging Face"),
    ("r8_", 20, Alphabet::Alphanumeric, "Replicate"),
    ("github_pat_", 20, Alphabet::Url, "GitHub"),
    ("ghp_", 20, Alphabet::Alphanumeric, "GitHub"),
    ("gho_", 20, Alphabet::Alphanumeric, "GitHub"),
    ("ghu_", 20, Alphabet::Alphanumeric, "GitHub"),
    ("ghs_", 20, Alphabet::Alphanumeric, "GitHub"),
    ("ghr_", 20, Alphabet::Alphanumeric, "GitHub"),
    ("glpat-", 20, Alphabet::Url, "GitLab"),
    ("AKIA", 16, Alphabet::Upper, "AWS"),
    ("ASIA", 16, Alphabet::Upper, "AWS"),
    ("xoxb-", 20, Alphabet::Url, "Slack"),
    ("xoxp-", 20, Alphabet::Url, "Slack"),
    ("xoxa-", 20, Alphabet::Url, "Slack"),
    ("xoxs-", 20, Alphabet::Url, "Slack"),
    ("xapp-", 20, Alphabet::Url, "Slack"),
    ("npm_", 36, Alphabet::Alphanumeric, "npm"),
    ("pypi-", 50, Alphabet::Url, "PyPI"),
    ("sk_live_", 20, Alphabet::Alphanumeric, "Stripe"),
    ("rk_live_", 20, Alphabet::Alphanumeric, "Stripe"),
];

/// Variables in which the tools of a provider look for its key, for keys whose form says nothing.
const NAMES: [(&str, &str); 29] = [
    ("OPENAI_API_KEY", "OpenAI"),
    ("CODEX_API_KEY", "OpenAI"),
    ("AZURE_OPENAI_API_KEY", "Azure OpenAI"),
    ("AZURE_API_KEY", "Azure"),
    ("GEMINI_API_KEY", "Google"),
    ("GOOGLE_API_KEY", "Google"),
    ("GOOGLE_GENERATIVE_AI_API_KEY", "Google"),
    ("MISTRAL_API_KEY", "Mistral"),
    ("GROQ_API_KEY", "Groq"),
    ("XAI_API_KEY", "xAI"),
    ("OPENROUTER_API_KEY", "OpenRouter"),
    ("DEEPSEEK_API_KEY", "DeepSeek"),
    ("CEREBRAS_API_KEY", "Cerebras"),
    ("COHERE_API_KEY", "Cohere"),
    ("FIREWORKS_API_KEY", "Fireworks"),
    ("TOGETHER_API_KEY", "Together"),
    ("PERPLEXITY_API_KEY", "Perplexity"),
    ("REPLICATE_API_TOKEN", "Replicate"),
    ("HF_TOKEN", "Hugging Face"),
    ("HUGGING_FACE_HUB_TOKEN", "Hugging Face"),
    ("GITHUB_TOKEN", "GitHub"),
    ("GH_TOKEN", "GitHub"),
    ("GITLAB_TOKEN", "GitLab"),
    ("AWS_SECRET_ACCESS_KEY", "AWS"),
    ("AWS_SESSION_TOKEN", "AWS"),
    ("AWS_BEARER_TOKEN_BEDROCK", "AWS"),
    ("SLACK_BOT_TOKEN", "Slack"),
    ("NPM_TOKEN", "npm"),
    ("NODE_AUTH_TOKEN", "npm"),
];

/// Shortest value of a variable of [`NAMES`] that is taken for a key: the shortest keys in use have 32 characters, some
/// with a few left out in the past.
const SHORTEST_KEY: usize = 20;
/// Fewest different characters of a key: `xxxxxxxx` and `0000` are placeholders.
const LEAST_VARIETY: usize = 8;
/// Words of values that stand for a key.
const STAND_INS: [&str; 6] = ["placeholder", "example", "dummy", "changeme", "your_", "your-"];

/// The provider whose key a variable seems to hold.
pub(super) fn provider(name: &str, value: &str) -> Option<&'static str> {
    let by_name = || {
        let upper = name.to_ascii_uppercase();
        let (_, provider) = NAMES.iter().find(|(known, _)| *known == upper)?;
        let visible = value.chars().all(|char| char.is_ascii_graphic());
        (visible && value.len() >= SHORTEST_KEY && is_random(value)).then_some(*provider)
    };
    // A key may be a part: of `Bearer KEY`, of a URL with a password, of JSON.
    words(value).find_map(by_form).or_else(by_name)
}

/// Runs of characters of which keys are made.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|char| !Alphabet::Url.has(char)).filter(|word| !word.is_empty())
}

fn by_form(word: &str) -> Option<&'static str> {
    PREFIXES.iter().find_map(|(prefix, least, alphabet, provider)| {
        let rest = word.strip_prefix(prefix)?;
        let fits = rest.len() >= *least && rest.chars().all(|char| alphabet.has(char)) && is_random(rest);
        fits.then_some(*provider)
    })
}

/// Not a word that stands for a key: letters and digits, many different ones.
fn is_random(text: &str) -> bool {
    let mut seen = [false; 128];
    for byte in text.bytes() {
        if let Some(seen) = seen.get_mut(usize::from(byte)) {
            *seen = true;
        }
    }
    let variety = seen.iter().filter(|seen| **seen).count();
    let lower = text.to_ascii_lowercase();
    variety >= LEAST_VARIETY
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !STAND_INS.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty characters that no provider has given out.
    const REST: &str = "0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ3";

    #[test]
    fn keys_of_known_providers_are_recognised_by_their_form() {
        for (prefix, _, _, provider) in PREFIXES {
            let key = match prefix {
                "AKIA" | "ASIA" => format!("{prefix}{}", &REST.to_ascii_uppercase()[..16]),
                "pypi-" => format!("{prefix}{REST}{REST}"),
                _ => format!("{prefix}{REST}"),
            };
            assert_eq!(super::provider("ANYTHING", &key), Some(provider), "{prefix}");
            let within = format!("https://user:{key}@host.example/");
            assert_eq!(super::provider("ANYTHING", &within), Some(provider), "{prefix} in a URL");
        }
        let google = format!("AIza{}", &REST[..35]);
        assert_eq!(provider("X", &format!("{{\"key\":\"{google}\"}}")), Some("Google"));
        assert_eq!(provider("X", &format!("Bearer sk-proj-{REST}")), Some("OpenAI"));
    }

    #[test]
    fn keys_without_a_form_are_recognised_by_the_name_of_the_variable() {
        for (name, provider) in NAMES {
            assert_eq!(super::provider(name, REST), Some(provider), "{name}");
            assert_eq!(super::provider(&name.to_ascii_lowercase(), REST), Some(provider), "{name}");
            for harmless in ["", "none", "test", "a key with spaces 0123456789", "http://localhost"] {
                assert_eq!(super::provider(name, harmless), None, "{name}={harmless}");
            }
        }
        assert_eq!(provider("SOME_TOKEN", REST), None);
    }

    #[test]
    fn what_only_begins_like_a_key_is_none() {
        for value in [
            "CREDENTIAL_PROXY_PLACEHOLDER",
            "sk-CREDENTIAL_PROXY_PLACEHOLDER",
            "sk-ant-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-ant-your-key-goes-here-0123456789",
            "sk-proj-0000000000000000000000000000",
            "sk-learn-contrib-version-1-2-3-4-5-6-7-8-9",
            "sk-short1",
            "task-0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ3",
            "AKIA",
            "AKIAlower0aB1cD2eF3",
            "ASIATISCH_UND_NOCH_EIN_WORT_0123456789",
            "hf_transfer",
            "npm_config_registry_0123456789",
            "C.UTF-8",
            "/usr/local/bin:/usr/bin:/bin",
        ] {
            assert_eq!(provider("ANYTHING", value), None, "{value}");
            assert_eq!(provider("OPENAI_API_KEY", &value[..value.len().min(12)]), None, "{value}");
        }
    }
}
