//! What dead sessions of this data directory left on the engine.

use std::collections::BTreeSet;

use super::Subject;
use super::check::Check;
use super::engine::remedy;
use crate::engine::{EngineError, Labels, SharedEngine};
use crate::plan::{LABEL_INSTANCE, LABEL_SESSION};
use crate::session::{SessionId, lock};

const LEFTOVERS: &str = "leftovers";

/// Looks for containers and networks without a living owner.
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
            let dead = sessions.iter().filter(|id| !lock::is_held(&dirs.session(id).lock()));
            judge(&dead.map(ToString::to_string).collect::<Vec<_>>())
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

fn judge(dead: &[String]) -> Check {
    if dead.is_empty() {
        return Check::ok(LEFTOVERS, "none of dead sessions");
    }
    Check::warning(
        LEFTOVERS,
        format!("dead sessions left containers or networks: {}", dead.join(", ")),
        "the next aigo run removes them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn dead_sessions_are_named() {
        assert_eq!(judge(&[]).status, Verdict::Ok);
        let check = judge(&["0123456789ab".into()]);
        assert!(check.status == Verdict::Warning && check.detail.contains("0123456789ab"));
    }
}
