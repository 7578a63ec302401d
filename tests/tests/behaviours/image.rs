//! What is in the image works, as the user that agents are.

use tests::{Expect, Home, Look, engine};

/// Each tool of the image contract, asked for something that makes it really run.
const TOOLS: [(&str, &str); 18] = [
    ("python", "python3 -c 'import ssl, sqlite3; print(2 ** 10)'"),
    ("pip", "pip --version"),
    ("uv", "uv --version"),
    ("node", "node -e 'if (!process.version.startsWith(\"v22.\")) process.exit(1)'"),
    ("npm", "npm --version"),
    ("git", "git init -q repo && git -C repo status --short"),
    ("curl", "curl --version"),
    ("jq", "test \"$(echo '{\"a\": [1, 2]}' | jq '.a[1]')\" = 2"),
    ("yq", "test \"$(echo 'a: {b: 3}' | yq .a.b)\" = 3"),
    ("ssh", "ssh -V"),
    ("ssh-keygen", "ssh-keygen -q -t ed25519 -N '' -f key"),
    ("docker", "docker --version"),
    ("dockerd", "dockerd --version"),
    ("claude", "claude --version"),
    ("sudo", "test \"$(sudo id -u)\" = 0"),
    ("apt", "apt-get --version"),
    ("runner", "aigo-runner --version"),
    ("static runner", "ldd /usr/local/bin/aigo-runner 2>&1 | grep -q 'statically linked\\|not a dynamic executable'"),
];

/// Bytes, as the engine counts them: 1.2 GB.
const LARGEST: u64 = 1_200_000_000;

#[test]
fn every_tool_of_the_image_runs() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let checks =
        TOOLS.map(|(name, command)| format!("({command}) >/tmp/out 2>&1 && echo 'ok {name}' || echo 'no {name}'"));
    let run = home.command(&format!("cd \"$(mktemp -d)\"\n{}", checks.join("\n"))).finish().expect(Expect::FINISHED);
    let expected = TOOLS.map(|(name, _)| format!("ok {name}"));
    assert_eq!(run.texts(), expected);
}

#[test]
fn the_image_is_not_larger_than_promised_and_names_its_versions() {
    let Some(_home) = Home::open() else { return };
    let image = engine::image();
    let size = engine::docker(&["image", "inspect", "--format", "{{.Size}}", &image]).unwrap();
    let size: u64 = size.trim().parse().unwrap();
    assert!(size <= LARGEST, "{size} bytes");
    let labels = engine::docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", &image]).unwrap();
    for tool in ["python", "node", "npm", "claude", "docker", "uv", "git", "runner"] {
        assert!(labels.contains(&format!("\"aigo.image.version.{tool}\"")), "{tool}: {labels}");
    }
    assert!(labels.contains("\"aigo.image.python.source\""), "{labels}");
}
