//! How the CLI is started.
//!
//! A folder that an agent works on may hold `.claude/settings.json` with an `env` block that sends the API traffic
//! elsewhere and hooks that run shell commands; the CLI honours it without asking. The same holds for settings in the
//! agent-writable home and for `.mcp.json`. All of them are off unless the user asks for the project's own settings.
//!
//! `--setting-sources=` also keeps the project's `CLAUDE.md` out, which people rely on and which can only talk. It comes
//! back as the memory of an additional folder, which brings no settings (seen with Claude Code 2.1.329).

use ipc_protocol::config::{AgentSpec, RunnerConfig};

use super::super::Launch;

/// Settings of ours: no question to a central service before each web fetch, which a closed network cannot answer.
const SETTINGS: &str = r#"{"skipWebFetchPreflight":true}"#;

/// In the container: root may skip permissions (`IS_SANDBOX`), no updates, nothing but model requests on the wire.
/// `CLAUDE.md` of additional folders is read.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("IS_SANDBOX", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD", "1"),
];

/// No commands and sub-agents in the background: at the end of its input the CLI waits for them, however long they run, and
/// nobody is there any more who could use what they do.
const IN_THE_FOREGROUND: (&str, &str) = ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1");

/// The command line and environment for a [`AgentSpec::Claude`]; nothing to start for another spec.
pub(super) fn launch(config: &RunnerConfig) -> Launch {
    let AgentSpec::Claude { model, conversation, resume, max_turns, append_system_prompt, project_settings, one_shot } =
        &config.agent
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
        argv.push(format!("--add-dir={}", config.layout.workspace));
    }
    argv.push(format!("--{}={conversation}", if *resume { "resume" } else { "session-id" }));
    argv.extend(model.iter().map(|model| format!("--model={model}")));
    argv.extend(max_turns.iter().map(|turns| format!("--max-turns={turns}")));
    argv.extend(append_system_prompt.iter().map(|prompt| format!("--append-system-prompt={prompt}")));
    let mut env = ENVIRONMENT.to_vec();
    env.extend(one_shot.then_some(IN_THE_FOREGROUND));
    Launch { argv, env }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::config::{Identity, Layout};

    use super::*;

    fn launch(resume: bool, project_settings: bool) -> Vec<String> {
        full_launch(resume, project_settings, false).argv
    }

    fn full_launch(resume: bool, project_settings: bool, one_shot: bool) -> Launch {
        let agent = AgentSpec::Claude {
            model: Some("sonnet".into()),
            conversation: "u-u".into(),
            resume,
            max_turns: Some(3),
            append_system_prompt: Some("--be kind".into()),
            project_settings,
            one_shot,
        };
        super::launch(&RunnerConfig {
            version: 1,
            session: "s1".into(),
            agent,
            identity: Identity { uid: 0, gid: 0 },
            preflight_url: None,
            mounts: Vec::new(),
            term_grace_ms: 1000,
            layout: Layout::default(),
        })
    }

    #[test]
    fn nothing_goes_on_in_the_background_of_a_session_that_ends_with_its_answer() {
        let has = |one_shot| full_launch(false, false, one_shot).env.contains(&IN_THE_FOREGROUND);
        assert!(has(true) && !has(false));
    }

    #[test]
    fn project_settings_are_off_unless_asked_for() {
        let has = |argv: Vec<String>, flag: &str| argv.iter().any(|arg| arg.starts_with(flag));
        assert!(has(launch(false, false), "--setting-sources="));
        assert!(!has(launch(false, true), "--setting-sources"));
        assert!(has(launch(false, true), "--strict-mcp-config"));
    }

    #[test]
    fn a_conversation_starts_or_goes_on() {
        assert_eq!(
            launch(false, true)[11..],
            ["--session-id=u-u", "--model=sonnet", "--max-turns=3", "--append-system-prompt=--be kind"]
        );
        assert_eq!(launch(true, true)[11], "--resume=u-u");
    }
}
