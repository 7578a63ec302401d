//! How the CLI is started.
//!
//! A folder that an agent works on may hold `.claude/settings.json` with an `env` block that sends the API traffic
//! elsewhere and hooks that run shell commands; the CLI honours it without asking. The same holds for settings in the
//! agent-writable home and for `.mcp.json`. All of them are off unless the user asks for the project's own settings.

use ipc_protocol::config::AgentSpec;

use super::super::Launch;

/// Settings of ours: no question to a central service before each web fetch, which a closed network cannot answer.
const SETTINGS: &str = r#"{"skipWebFetchPreflight":true}"#;

/// In the container: root may skip permissions (`IS_SANDBOX`), no updates, nothing but model requests on the wire.
const ENVIRONMENT: [(&str, &str); 3] =
    [("IS_SANDBOX", "1"), ("DISABLE_AUTOUPDATER", "1"), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")];

/// The command line and environment for a [`AgentSpec::Claude`]; nothing to start for another spec.
pub(super) fn launch(spec: &AgentSpec) -> Launch {
    let AgentSpec::Claude { model, conversation, resume, max_turns, append_system_prompt, project_settings } = spec
    else {
        return Launch { argv: Vec::new(), env: Vec::new() };
    };
    let mut argv: Vec<String> = [
        "claude",
        "-p",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        "--verbose",
        "--dangerously-skip-permissions",
        "--strict-mcp-config",
        "--settings",
        SETTINGS,
    ]
    .map(str::to_owned)
    .to_vec();
    // `--flag=value` keeps a value that begins with a dash from being read as a flag.
    if !project_settings {
        argv.push("--setting-sources=".to_owned());
    }
    argv.push(format!("--{}={conversation}", if *resume { "resume" } else { "session-id" }));
    argv.extend(model.iter().map(|model| format!("--model={model}")));
    argv.extend(max_turns.iter().map(|turns| format!("--max-turns={turns}")));
    argv.extend(append_system_prompt.iter().map(|prompt| format!("--append-system-prompt={prompt}")));
    Launch { argv, env: ENVIRONMENT.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(resume: bool, project_settings: bool) -> AgentSpec {
        AgentSpec::Claude {
            model: Some("sonnet".into()),
            conversation: "u-u".into(),
            resume,
            max_turns: Some(3),
            append_system_prompt: Some("--be kind".into()),
            project_settings,
        }
    }

    #[test]
    fn project_settings_are_off_unless_asked_for() {
        let has = |launch: Launch, flag: &str| launch.argv.iter().any(|arg| arg.starts_with(flag));
        assert!(has(launch(&spec(false, false)), "--setting-sources="));
        assert!(!has(launch(&spec(false, true)), "--setting-sources"));
        assert!(has(launch(&spec(false, true)), "--strict-mcp-config"));
    }

    #[test]
    fn a_conversation_starts_or_goes_on() {
        assert_eq!(
            launch(&spec(false, false)).argv[12..],
            ["--session-id=u-u", "--model=sonnet", "--max-turns=3", "--append-system-prompt=--be kind"]
        );
        assert_eq!(launch(&spec(true, false)).argv[12], "--resume=u-u");
    }
}
