//! Prompts of every kind reach the agent as they are.

use tests::{Expect, Home, Look, Script};

/// Size of a large prompt.
const LARGE: usize = 1024 * 1024;

#[test]
fn a_prompt_that_looks_like_a_command_of_the_agent_is_text() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("as you say").expect("/clear everything");
    let run = home.claude("/clear everything", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["as you say"]);
}

#[test]
fn a_prompt_that_names_a_file_is_given_as_it_is() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("as you say").expect("@/etc/passwd");
    let run = home.claude("@/etc/passwd", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["as you say"]);
}

/// Words whose end is only there if everything is.
fn large() -> String {
    let mut text = "word ".repeat(LARGE / 5);
    text.push_str("the very end");
    text
}

#[test]
fn a_prompt_of_a_megabyte_comes_from_a_file() {
    let Some(home) = Home::open() else { return };
    let file = home.write("prompt", large());
    let script = Script::new().say("read it all").expect("the very end");
    let run = home.claude("", &script).without_prompt().flags(["--prompt-file"]).flags([file]);
    let run = run.finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["read it all"]);
}

#[test]
fn a_prompt_of_a_megabyte_comes_from_standard_input() {
    let Some(home) = Home::open() else { return };
    let mut run = home.command("wc -c").with_stdin().flags(["--prompt-file", "-"]).start();
    run.pour(large().into_bytes());
    let run = run.finish().expect(Expect::FINISHED);
    // With the line end that the program gets after each message.
    assert_eq!(run.texts(), [(large().len() + 1).to_string()]);
}

#[test]
fn without_a_prompt_or_a_credential_nothing_starts() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("never asked");
    home.claude("", &script).without_prompt().finish().expect_refusal(2, "no prompt");
    let said = home.aigo(["run", "hello"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("ANTHROPIC_API_KEY") && said.stderr.contains("--replay"), "{}", said.stderr);
}
