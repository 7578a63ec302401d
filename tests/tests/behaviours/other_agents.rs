//! The agents of docs/other-agents.md, installed in pinned versions, each in a session. What the page tells people to write is
//! taken from the page.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::run::Builder;
use tests::upstream::KEY;
use tests::{Answer, Expect, Home, Look, Script, Upstream, binary, look};

const PAGE: &str = include_str!("../../../docs/other-agents.md");
/// `none` means that the agents cannot be installed here, and that this is known.
const VARIABLE: &str = "AIGO_TEST_AGENTS";
/// What only the work's own requests contain, and not those for a title of the conversation.
const WORK: &str = "You are a careful programmer.";

/// The folder with the agents; `None` where they cannot be installed.
fn agents() -> Option<PathBuf> {
    if std::env::var(VARIABLE).is_ok_and(|value| value == "none") {
        println!("not run: {VARIABLE}=none, and this behaviour needs agents from package registries");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents.sh");
    let output = Command::new(script).env("AIGO_BIN", binary::aigo()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the agents cannot be installed, {VARIABLE}=none leaves these tests out: {said}");
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end()))
}

/// The first block of this kind under a heading of the page.
fn block(heading: &str, kind: &str) -> String {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, rest) = section.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// A session of a program that sees the agents at `/workspace/extra/agents`.
fn session<'a>(home: &'a Home, agents: &Path, program: &[&str]) -> Builder<'a> {
    home.put("AGENTS.md", WORK);
    let mount = format!("{}:agents", agents.display());
    home.command("").after_dashes(program).flags(["--mount", &mount])
}

/// The same with a script for a model, which lets the agent make a file by its shell and then says something.
fn replayed<'a>(home: &'a Home, agents: &Path, shell: &str, program: &[&str]) -> Builder<'a> {
    let input = serde_json::json!({"command": "echo done >made.txt", "description": "Makes a file"});
    let script = Script::new().line(serde_json::json!({"tool": shell, "input": input})).expect(WORK);
    let script = home.write("script", script.say("That was the work.").expect(WORK).text());
    session(home, agents, program).flags(["--replay"]).flags([script])
}

/// The work was done, by way of the proxy.
fn did_the_work(home: &Home, builder: Builder<'_>) {
    let run = builder.finish().expect(Expect::FINISHED);
    assert!(run.texts().iter().any(|text| text.contains("That was the work.")), "{run:#?}");
    assert_eq!(std::fs::read_to_string(home.file("made.txt")).unwrap(), "done\n", "{run:#?}");
    assert!(run.ended().2.model_requests >= 2, "{run:#?}");
}

#[test]
fn the_claude_agent_sdk_works_as_it_is() {
    let Some((home, agents)) = Home::open().zip(agents()) else { return };
    home.put("agent.py", block("Claude Agent SDK", "python"));
    let run = replayed(&home, &agents, "Bash", &["python3", "agent.py", "do the work"]);
    did_the_work(&home, run.flags(["--env", "PYTHONPATH=/workspace/extra/agents/python"]));
}

#[test]
fn opencode_works_with_the_setting_of_the_page() {
    let Some((home, agents)) = Home::open().zip(agents()) else { return };
    home.put("settings/opencode.json", block("opencode", "json"));
    let opencode = "/workspace/extra/agents/node_modules/.bin/opencode";
    let run =
        replayed(&home, &agents, "bash", &[opencode, "run", "--model", "anthropic/claude-sonnet-4-5", "do the work"]);
    did_the_work(&home, run.flags(["--env", "OPENCODE_CONFIG=/workspace/settings/opencode.json"]));
}

#[test]
fn pi_works_with_the_script_of_the_page() {
    let Some((home, agents)) = Home::open().zip(agents()) else { return };
    home.put("pi.sh", block("pi", "sh"));
    did_the_work(&home, replayed(&home, &agents, "bash", &["sh", "pi.sh", "do the work"]));
}

#[test]
fn another_agent_has_the_placeholder_and_the_upstream_the_key() {
    let Some((home, agents)) = Home::open().zip(agents()) else { return };
    home.put("pi.sh", format!("echo key $ANTHROPIC_API_KEY\n{}", block("pi", "sh")));
    let upstream = Upstream::start(|_, _| Answer::say("That was an answer."));
    let run = session(&home, &agents, &["sh", "pi.sh", "do the work"]);
    let run = run.env("ANTHROPIC_API_KEY", KEY).env("ANTHROPIC_BASE_URL", upstream.url("")).finish();
    let run = run.expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["key CREDENTIAL_PROXY_PLACEHOLDER", "That was an answer."], "{run:#?}");
    assert!(!look::tell(run.events()).contains(KEY));
    let requests = upstream.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert!(request.path.starts_with("/v1/messages"), "{}", request.path);
        assert_eq!(request.all("x-api-key"), [KEY]);
        assert!(request.headers.iter().all(|(_, value)| !value.contains("PLACEHOLDER")), "{:?}", request.headers);
    }
}
