use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::request::{ClaudeRequest, DEFAULT_IMAGE, DEFAULT_PROXY_PORT, Limits, MountRequest, RunAs};
use crate::session::machine::Graces;

pub(crate) fn request() -> SessionRequest {
    SessionRequest {
        principal: crate::agents::AgentName::default(),
        workspace: "/home/u/p".into(),
        workspace_read_only: false,
        mounts: Vec::new(),
        image: DEFAULT_IMAGE.into(),
        agent: AgentRequest::Claude(ClaudeRequest::default()),
        prompt: Some("do it".into()),
        keep_open: false,
        limits: Limits::default(),
        timeout: None,
        idle_timeout: None,
        graces: Graces::default(),
        env: BTreeMap::new(),
        run_as: RunAs::Owner,
        model: crate::request::ModelSource::Live,
        proxy_port: DEFAULT_PROXY_PORT,
    }
}

pub(crate) fn folder(path: &str) -> FolderFacts {
    FolderFacts {
        asked: path.into(),
        canonical: path.into(),
        id: crate::workspace::facts::FolderId { device: 1, inode: 1 },
        uid: 1000,
        gid: 1000,
        is_dir: true,
        readable: true,
        writable: true,
        has_ipc: false,
        has_extra: false,
    }
}

pub(crate) fn facts() -> Facts {
    Facts {
        workspace: folder("/home/u/p"),
        mounts: Vec::new(),
        own_folders: vec![PathBuf::from("/home/u/.local/share/aigo")],
        us: Identity { uid: 0, gid: 0 },
        rootless: false,
        model: true,
        secrets: Vec::new(),
    }
}

#[test]
fn a_plain_request_is_permitted() {
    assert!(judge(request(), facts()).is_ok());
}

#[test]
fn root_cannot_use_a_rootless_engine() {
    let judged = |uid| judge(request(), Facts { rootless: true, us: Identity { uid, gid: uid }, ..facts() });
    assert!(judged(0).unwrap_err().to_string().contains("run aigo as that user"));
    assert!(judged(1000).is_ok());
}

#[test]
fn all_reasons_come_at_once() {
    let mut request = request();
    request.image = "Not An Image".into();
    request.limits.memory = 1;
    request.prompt = Some("  ".into());
    request.mounts = vec![
        MountRequest { host: "/home/u/.ssh".into(), name: "a".into(), read_only: true },
        MountRequest { host: "/home/u/d".into(), name: "a".into(), read_only: true },
    ];
    let mut facts = facts();
    facts.mounts = vec![folder("/home/u/.ssh"), folder("/home/u/d")];
    let denied = judge(request, facts).unwrap_err();
    for part in ["image tag", "--memory 1", "prompt is empty", ".ssh", "two mounts"] {
        assert!(denied.reasons.iter().any(|reason| reason.to_string().contains(part)), "{part}: {denied}");
    }
}

#[test]
fn a_folder_with_an_ipc_of_its_own_or_without_write_access_is_permitted() {
    let mut facts = facts();
    (facts.workspace.has_ipc, facts.workspace.has_extra, facts.workspace.writable) = (true, true, false);
    let mut request = request();
    request.mounts = vec![MountRequest { host: "/home/u/d".into(), name: "a".into(), read_only: true }];
    facts.mounts = vec![folder("/home/u/d")];
    let permit = judge(request, facts).unwrap();
    assert!(permit.request().mount_points(&permit.facts().workspace).is_empty());
}
