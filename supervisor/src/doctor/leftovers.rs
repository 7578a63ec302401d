//! What dead sessions of this data directory left on the engine and in the data directory.

use std::collections::BTreeSet;
use std::path::Path;

use super::Subject;
use super::check::Check;
use super::engine::remedy;
use crate::engine::{EngineError, Labels, SharedEngine};
use crate::plan::{LABEL_INSTANCE, LABEL_SESSION};
use crate::session::{SessionId, lock};

const LEFTOVERS: &str = "leftovers";

/// Looks for containers, networks and folders of sessions without a living owner.
pub(super) async fn check(subject: &Subject<'_>, engine_answers: bool) -> Check {
    let (Ok(engine), true) = (&subject.engine, engine_answers) else {
        return Check::skipped(LEFTOVERS, "no engine answers");
    };
    let dirs = match &subject.dirs {
        Ok(dirs) => dirs,
        Err(_) => return Check::skipped(LEFTOVERS, "there is no data directory"),
    };
    let instance = match dirs.instance() {
        Ok(instance) => instance,
        Err(error) => return Check::skipped(LEFTOVERS, error.to_string()),
    };
    match sessions_of(engine, &instance).await {
        Ok(sessions) => {
            let is_dead = |id: &SessionId| !lock::is_held(&dirs.session(id).lock());
            let objects: Vec<String> = sessions.iter().filter(|id| is_dead(id)).map(ToString::to_string).collect();
            let folders = folders_of(&dirs.sessions());
            let folders =
                folders.iter().filter(|id| is_dead(id)).map(|id| dirs.session(id).root().display().to_string());
            judge(&objects, &folders.collect::<Vec<_>>())
        }
        Err(error) => Check::failed(LEFTOVERS, error.to_string(), remedy(&error)),
    }
}

async fn sessions_of(engine: &SharedEngine, instance: &str) -> Result<BTreeSet<SessionId>, EngineError> {
    let labels = Labels::from([(LABEL_INSTANCE.to_owned(), instance.to_owned())]);
    let containers = engine.containers(&labels).await?.into_iter().map(|container| container.labels);
    let networks = engine.networks(&labels).await?.into_iter().map(|network| network.labels);
    Ok(containers.chain(networks).filter_map(|labels| labels.get(LABEL_SESSION)?.parse().ok()).collect())
}

fn folders_of(sessions: &Path) -> BTreeSet<SessionId> {
    let entries = std::fs::read_dir(sessions).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn judge(objects: &[String], folders: &[String]) -> Check {
    let objects =
        (!objects.is_empty()).then(|| format!("dead sessions left containers or networks: {}", objects.join(", ")));
    let folders = (!folders.is_empty()).then(|| format!("dead sessions left folders: {}", folders.join(", ")));
    let left: Vec<String> = objects.into_iter().chain(folders).collect();
    if left.is_empty() {
        return Check::ok(LEFTOVERS, "no containers, networks or folders of dead sessions");
    }
    Check::warning(
        LEFTOVERS,
        left.join("; "),
        "the next `aigo run` removes them; what it cannot remove it names with the command for that",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn dead_sessions_are_named() {
        assert_eq!(judge(&[], &[]).status, Verdict::Ok);
        for check in [judge(&["0123456789ab".into()], &[]), judge(&[], &["/d/sessions/0123456789ab".into()])] {
            assert!(check.status == Verdict::Warning && check.detail.contains("0123456789ab"));
        }
    }
}
