//! Beginnings that fail before the session's own task begins.

use super::*;
use crate::engine::fake::FakeEngine;
use crate::policy;
use crate::store::SessionFilter;

#[tokio::test]
async fn a_session_that_cannot_be_reached_leaves_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = DataDir::open(Some(dir.path()), |_| None).unwrap();
    let store = Store::open(&dirs.database()).unwrap();
    let identity = EngineIdentity { id: "fake".into(), endpoint: "fake".into() };
    let instance = "test".into();
    let launcher = Launcher { engine: Arc::new(FakeEngine::new()), store, dirs, instance, identity };
    let permit = policy::judge(policy::tests::request(), policy::tests::facts()).unwrap();
    let id = SessionId::random();
    let folder = launcher.dirs.session(&id);
    let plan = LaunchPlan::new(permit, id, &launcher.instance, &folder);
    let lock = make_folder(&folder).unwrap();
    // Its place is taken.
    std::fs::create_dir(folder.control_socket()).unwrap();
    let error = launcher.begin(Account::default(), plan, None, &folder, lock).await.unwrap_err();
    assert!(matches!(error, LaunchError::Folder { .. }), "{error}");
    assert_eq!(launcher.store.sessions(SessionFilter::All).await.unwrap().len(), 0);
}
