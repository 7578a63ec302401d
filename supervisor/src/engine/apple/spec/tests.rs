use std::collections::BTreeMap;

use super::*;
use crate::engine::{Device, ImageId, Labels};

const NEWEST: [&str; 5] = ["--cap-drop", "--cap-add", "--read-only", "--ulimit", "--shm-size"];

fn image() -> ImageInfo {
    ImageInfo {
        id: ImageId("sha256:1".into()),
        tags: vec!["i:1".into()],
        size: 1,
        created: None,
        labels: Labels::new(),
        env: BTreeMap::new(),
        entrypoint: vec!["/runner".into()],
        command: vec!["serve".into()],
        user: String::new(),
        working_dir: String::new(),
        architecture: "arm64".into(),
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec::new("c", "i:1")
}

fn words(spec: &ContainerSpec, offers: &[&str]) -> (String, Vec<String>) {
    let Arguments { words, warnings } = arguments(spec, &image(), &Offers::of(offers, None)).unwrap();
    (words.join(" "), warnings)
}

fn refusal(spec: &ContainerSpec) -> String {
    arguments(spec, &image(), &Offers::of(&NEWEST, None)).unwrap_err().to_string()
}

#[test]
fn the_images_own_program_on_no_network() {
    let expected = "create --name c --cap-drop ALL --network none --entrypoint /runner i:1 serve";
    assert_eq!(words(&spec(), &NEWEST), (expected.to_owned(), vec![]));
    let mut own = spec();
    own.entrypoint = Some(vec!["/bin/tool".into(), "-x".into()]);
    assert!(words(&own, &NEWEST).0.ends_with("--entrypoint /bin/tool i:1 -x"), "the image's command is left out");
    own.entrypoint = Some(vec![]);
    assert!(refusal(&own).contains("no program"));
}

#[test]
fn hosts_are_added_inside() {
    let mut spec = spec();
    spec.extra_hosts = BTreeMap::from([("host-gateway".to_owned(), [192, 168, 65, 1].into())]);
    let Arguments { words, .. } = arguments(&spec, &image(), &Offers::of(&NEWEST, None)).unwrap();
    let tail: Vec<&str> = words.iter().rev().take(9).rev().map(String::as_str).collect();
    let line = "192.168.65.1\thost-gateway\n";
    assert_eq!(tail, ["--entrypoint", "/bin/sh", "i:1", "-c", WITH_HOSTS, "sh", line, "/runner", "serve"]);
}

/// The script itself, on a shell of this machine.
#[test]
fn the_program_takes_the_place_of_the_shell_that_adds_hosts() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = WITH_HOSTS.replace("/etc/hosts", &file.path().display().to_string());
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &script, "sh", "10.0.0.1\ta b%s\n", "/bin/sh", "-c", "echo \"$@\" $$", "x", "one two", "3"])
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("one two 3 "));
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "10.0.0.1\ta b%s\n");
}

#[test]
fn limits_are_whole_and_told_where_they_differ() {
    let mut spec = spec();
    spec.limits = Limits { nano_cpus: Some(2_000_000_000), memory: Some(1 << 30), ..Limits::default() };
    assert_eq!(words(&spec, &NEWEST).1, Vec::<String>::new());
    assert!(words(&spec, &NEWEST).0.contains("--cpus 2 --memory 1024M"));
    spec.limits = Limits {
        nano_cpus: Some(2_500_000_000),
        memory: Some(64 << 20),
        pids: Some(9),
        nofile: Some(512),
        shm: Some(1),
    };
    let (text, warnings) = words(&spec, &NEWEST);
    assert!(text.contains("--cpus 2 --memory 200M --ulimit nofile=512:512 --shm-size 1M"), "{text}");
    assert!(warnings[0].contains("2 instead of 2.500") && warnings[1].contains("200 MiB"), "{warnings:?}");
    assert!(warnings.len() == 3 && warnings[2].contains("processes are not bounded"), "{warnings:?}");
    spec.limits.nano_cpus = Some(250_000_000);
    assert!(words(&spec, &NEWEST).0.contains("--cpus 1 "));
    // An old version: capabilities, open files and shared memory beside these.
    assert_eq!(words(&spec, &[]).1.len(), 6);
}

#[test]
fn mounts_keep_their_order_whatever_their_paths_have() {
    let mut spec = spec();
    spec.mounts = vec![Mount::bind("/a", "/workspace", false), Mount::bind("/b:c", "/workspace/ipc", true)];
    let (text, _) = words(&spec, &NEWEST);
    assert!(text.contains(
        "--mount type=bind,source=/a,target=/workspace --mount type=bind,source=/b:c,target=/workspace/ipc,readonly"
    ));
    spec.mounts[1] = Mount::bind("/b,c=d", "/workspace/ipc", true);
    assert!(words(&spec, &NEWEST).0.contains("--volume /a:/workspace --volume /b,c=d:/workspace/ipc:ro"));
    spec.mounts[0] = Mount::bind("/a:b", "/workspace", false);
    assert!(refusal(&spec).contains("rename the folder"));
    spec.mounts =
        vec![Mount { source: MountSource::Tmpfs { size: 1, mode: 0o1777 }, target: "/t".into(), read_only: false }];
    assert!(words(&spec, &NEWEST).0.contains("--mount type=tmpfs,target=/t,size=1M,mode=1777"));
}

#[test]
fn what_would_be_weaker_is_refused() {
    let with = |change: fn(&mut ContainerSpec)| {
        let mut spec = spec();
        change(&mut spec);
        refusal(&spec)
    };
    assert!(with(|spec| spec.security.privileged = true).contains("devices of the host"));
    assert!(with(|spec| spec.security.devices = vec![Device("/dev/kvm".into())]).contains("devices of the host"));
    assert!(with(|spec| spec.network = NetworkAttachment::Host).contains("host's network"));
    assert!(with(|spec| spec.cgroup_parent = Some("/a".into())).contains("below a cgroup"));
    let network = |name: &str, address| NetworkAttachment::Network { network: name.into(), address };
    let mut spec = spec();
    spec.network = network("n", Some([10, 0, 0, 2].into()));
    assert!(refusal(&spec).contains("address of your choice"));
    // A comma would begin an option of the network.
    spec.network = network("n,mac=02:42:ac:11:00:02", None);
    assert!(refusal(&spec).contains("join the network"));
    spec.network = network("n", None);
    spec.read_only_root = true;
    assert!(arguments(&spec, &image(), &Offers::default()).is_err());
    assert!(words(&spec, &NEWEST).0.contains("--read-only"));
}
