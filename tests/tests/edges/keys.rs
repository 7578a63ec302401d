//! Keys: where they come from, where they go, and what is said when they are missing or wrong.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tests::engine::docker;
use tests::upstream::KEY;
use tests::{Answer, Expect, Home, Look, Upstream};

use crate::support::{known, transcript, warnings};

/// The agent's own retries of a refused key would take three minutes.
const AT_ONCE: Duration = Duration::from_secs(30);

#[test]
fn without_a_key_nothing_starts() {
    let Some(home) = Home::open() else { return };
    let workspace = home.workspace();
    let said = home.aigo(["run", "--workspace", workspace.to_str().unwrap(), "hello"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "--replay"] {
        assert!(said.stderr.contains(name), "{}", said.stderr);
    }
    assert_eq!(home.leftovers(), [] as [&str; 0]);
    assert_eq!(known(&home), [] as [&str; 0]);
}

#[test]
fn a_key_that_cannot_be_one_is_refused_and_not_shown() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("hello")]);
    for (value, why) in [
        ("sk-marked-0123456789\n", "line break"),
        ("sk-marked 0123456789", "whitespace"),
        ("sk-marked-0123456789\u{e9}", "printable ASCII"),
        ("CREDENTIAL_PROXY_PLACEHOLDER", "placeholder"),
    ] {
        let run = home.live("hello", &upstream).env("ANTHROPIC_API_KEY", value).finish();
        run.expect_refusal(3, "ANTHROPIC_API_KEY");
        assert!(run.stderr.contains(why), "{}", run.stderr);
        assert!(!run.stderr.contains("marked"), "{}", run.stderr);
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(known(&home), [] as [&str; 0]);
}

#[test]
fn a_wrong_key_is_one_clear_error_at_once() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::error(401, "authentication_error", "invalid x-api-key")]);
    let began = Instant::now();
    let run = home.live("hello", &upstream).finish().expect(Expect::AGENT_EXIT);
    assert!(began.elapsed() < AT_ONCE, "it took {:?}: {run:#?}", began.elapsed());
    assert_eq!(upstream.requests().len(), 1, "the agent tried again: {run:#?}");
    let shown = transcript(&home);
    let sentence = "refused the credential that the host has in ANTHROPIC_API_KEY";
    assert_eq!(shown.matches(sentence).count(), 1, "one clear error: {shown}");
    assert!(shown.contains("set a valid one on the host"), "{shown}");
    assert!(!shown.contains("Please run /login"), "what cannot help here: {shown}");
    assert_eq!(warnings(run.events(), "credential_refused").len(), 1, "{run:#?}");
}

/// Runs with a credential in `variable`; checks that the upstream gets exactly this one, as `header: value`.
fn arrives_as(variable: &str, header: &str, value: &str) {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("the key was right")]);
    let run = home
        .live("hello", &upstream)
        .env("ANTHROPIC_API_KEY", "")
        .env(variable, KEY)
        .env("ANTHROPIC_BASE_URL", upstream.url("/some/path"))
        .finish()
        .expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["the key was right"]);
    let requests = upstream.requests();
    let [request] = &requests[..] else { panic!("one request: {requests:#?}") };
    assert_eq!(request.method, "POST");
    assert_eq!(request.path.split('?').next(), Some("/some/path/v1/messages"));
    assert_eq!(request.all(header), [value]);
    let credentials = request.all("x-api-key").len() + request.all("authorization").len();
    assert_eq!(credentials, 1, "exactly one credential: {:#?}", request.headers);
    let oauth = request.all("anthropic-beta").iter().any(|beta| beta.contains("oauth-"));
    assert_eq!(oauth, variable == "CLAUDE_CODE_OAUTH_TOKEN", "{:#?}", request.headers);
    let body = String::from_utf8_lossy(&request.body);
    assert!(body.contains("hello") && !body.contains(KEY) && !body.contains("PLACEHOLDER"), "{body}");
    let host = format!("127.0.0.1:{}", upstream.url("").rsplit(':').next().unwrap());
    assert_eq!(request.all("host"), [host]);
}

#[test]
fn an_api_key_arrives_as_x_api_key() {
    arrives_as("ANTHROPIC_API_KEY", "x-api-key", KEY);
}

#[test]
fn an_auth_token_arrives_as_bearer() {
    arrives_as("ANTHROPIC_AUTH_TOKEN", "authorization", &format!("Bearer {KEY}"));
}

#[test]
fn an_oauth_token_arrives_as_bearer_with_its_beta() {
    arrives_as("CLAUDE_CODE_OAUTH_TOKEN", "authorization", &format!("Bearer {KEY}"));
}

#[test]
fn plain_http_leaves_this_host_only_when_told_to() {
    let Some(home) = Home::open() else { return };
    // An address of this host that is not loopback stands for any other host.
    let gateway = docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]).unwrap();
    let gateway: IpAddr = gateway.parse().expect("the default network has a gateway");
    let upstream = Upstream::start_at(gateway, |_, _| Answer::say("plainly"));
    let refused = home.live("hello", &upstream).finish();
    refused.expect_refusal(3, "plain http");
    assert!(
        refused.stderr.contains("--allow-plain-http") && refused.stderr.contains(&upstream.url("")),
        "{refused:#?}"
    );
    assert!(upstream.requests().is_empty() && known(&home).is_empty());
    let run = home.live("hello", &upstream).flags(["--allow-plain-http"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["plainly"]);
}

#[test]
fn a_base_url_that_is_none_is_named() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::script([Answer::say("hello")]);
    for (url, why) in [
        ("api.example", "https://host/path"),
        ("ftp://api.example/", "neither https nor http"),
        ("https://me:secret-word@api.example/", "user name or password"),
        ("https://api.example/?key=a", "query"),
    ] {
        let run = home.live("hello", &upstream).env("ANTHROPIC_BASE_URL", url).finish();
        run.expect_refusal(3, "ANTHROPIC_BASE_URL");
        assert!(run.stderr.contains(why) && !run.stderr.contains("secret-word"), "{}", run.stderr);
    }
}

#[test]
fn an_upstream_that_nobody_listens_on_is_named() {
    let Some(home) = Home::open() else { return };
    let url = Upstream::script([Answer::say("gone")]).url("");
    let nobody = Upstream::script([Answer::say("not asked")]);
    let mut run = home.live("hello", &nobody).env("ANTHROPIC_BASE_URL", url).start();
    run.wait_for("a warning about the upstream", |event| {
        tests::look::warning(event)
            .is_some_and(|(code, text)| code == "upstream_unreachable" && text.contains("127.0.0.1"))
    });
    run.wait_for("a retry", |event| tests::look::warning(event).is_some_and(|(code, _)| code == "api_retry"));
    run.close_stdin();
    let said = home.aigo(["stop", "--kill", &run.session()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    run.finish().expect(Expect::CANCELLED);
}

/// Nobody's keys, in the forms of GitHub and Mistral.
const FOREIGN_KEYS: [(&str, &str); 2] =
    [("CI_WORD", "ghp_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX"), ("MISTRAL_API_KEY", "0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0u")];

#[test]
fn keys_of_other_providers_are_handed_on_with_a_warning() {
    let Some(home) = Home::open() else { return };
    let flags = FOREIGN_KEYS.map(|(name, value)| format!("--env={name}={value}"));
    let run = || home.command("echo has ${#CI_WORD} characters").flags(&flags).flags(["--env", "OPENAI_API_KEY=none"]);
    let is_told = |text: &str| {
        for (name, provider) in [("CI_WORD", "GitHub"), ("MISTRAL_API_KEY", "Mistral")] {
            let told = format!("the variable {name} seems to hold a key of {provider}");
            assert_eq!(text.matches(&told).count(), 1, "{told}: {text}");
        }
        assert!(!text.contains("OPENAI_API_KEY"), "{text}");
        assert!(FOREIGN_KEYS.iter().all(|(_, value)| !text.contains(value)), "a value is shown: {text}");
    };
    let events = run().finish().expect(Expect::FINISHED);
    assert_eq!(events.texts(), [format!("has {} characters", FOREIGN_KEYS[0].1.len())], "it is a warning, no refusal");
    is_told(&events.stderr);
    is_told(&warnings(events.events(), "env_key").join("\n"));
    let text = run().output("text").finish();
    is_told(&text.stderr);
    assert!(!text.text().contains("seems to hold"), "said once: {}", text.text());
    let json = run().output("json").finish();
    is_told(&json.stderr);
    let kept = home.aigo(["logs", &known(&home)[0]]);
    is_told(&kept.stdout);
}
