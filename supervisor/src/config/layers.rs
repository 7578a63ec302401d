//! Laying the layers over each other: file, environment, flags; then the rules between keys.

use std::collections::BTreeMap;
use std::path::Path;

use super::document;
use super::environment::Environment;
use super::error::{ConfigError, Problem, in_order};
use super::kind::{Kind, Raw};
use super::list::Origin;
use super::sections::Config;
use super::visit::{Key, Visitor, path};
use super::{Flag, Loaded};
use crate::agents::{AgentName, InvalidAgentName};
use crate::units::exact_size;

/// The origin of each key that is not a default, by its path.
pub(super) type Origins = BTreeMap<String, Origin>;
/// What a layer says, by path.
pub(super) type Layer<'a> = BTreeMap<String, (Raw<'a>, Origin)>;

/// Lays all layers over the defaults and judges the result.
pub(super) fn load(
    mut config: Config,
    file: Option<(&Path, &str)>,
    env: &Environment<'_>,
    flags: &[Flag],
) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut origins = Origins::new();
    if let Some((path, text)) = file {
        let (layer, agents, wrong) = document::layer(&config, path, text);
        problems.extend(wrong);
        lay(&mut config, layer, agents, &mut origins, &mut problems);
    }
    problems.extend(env.unknown(&config));
    let layer = env.layer(&config);
    lay(&mut config, layer, Vec::new(), &mut origins, &mut problems);
    lay(&mut config, from_flags(flags), Vec::new(), &mut origins, &mut problems);
    // Rules between keys make sense only where each key does.
    if problems.is_empty() {
        problems = between(&config, &origins);
    }
    if problems.is_empty() { Ok(Loaded { config, origins }) } else { Err(ConfigError::Bad(in_order(problems))) }
}

fn from_flags(flags: &[Flag]) -> Layer<'_> {
    let raw = |flag: &Flag| (Raw { text: flag.value.clone().into(), is_text: true }, Origin::Flag { flag: flag.flag });
    flags.iter().map(|flag| (flag.key.to_owned(), raw(flag))).collect()
}

/// Overwrites what the layer names.
pub(super) fn lay(
    config: &mut Config,
    layer: Layer<'_>,
    agents: Vec<AgentName>,
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) {
    config.visit(&mut Overlay { layer, agents, tables: Vec::new(), origins, problems });
}

struct Overlay<'a, 'b> {
    layer: Layer<'a>,
    agents: Vec<AgentName>,
    tables: Vec<String>,
    origins: &'b mut Origins,
    problems: &'b mut Vec<Problem>,
}

impl Visitor for Overlay<'_, '_> {
    fn key<K: Kind>(&mut self, key: Key, kind: &K, value: &mut K::Value) {
        let path = path(&self.tables, key.name);
        let Some((raw, origin)) = self.layer.remove(&path) else { return };
        match kind.read(&raw) {
            Ok(read) => {
                *value = read;
                self.origins.insert(path, origin);
            }
            Err(error) => self.problems.push(Problem { place: origin, text: format!("{path}: {error}") }),
        }
    }

    fn enter(&mut self, name: &str) {
        self.tables.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.tables.pop();
    }

    fn agents(&mut self) -> Vec<Result<AgentName, InvalidAgentName>> {
        self.agents.drain(..).map(Ok).collect()
    }
}

/// Rules between keys.
fn between(config: &Config, origins: &Origins) -> Vec<Problem> {
    let place = |key: &str| origins.get(key).cloned().unwrap_or(Origin::Default);
    let mut problems = Vec::new();
    let mut rule = |holds: bool, key: &str, text: &dyn Fn() -> String| {
        if !holds {
            problems.push(Problem { place: place(key), text: format!("{key}: {}", text()) });
        }
    };
    rule(config.listen.ip().is_loopback() || config.token_file.is_some(), "listen", &|| {
        format!("{} can be reached from elsewhere: name a `token-file`, or listen on 127.0.0.1", config.listen)
    });
    rule(config.proxy.allow_plain_http || !config.proxy.upstream.is_plain_beyond_loopback(), "proxy.upstream", &|| {
        let upstream = &config.proxy.upstream;
        format!(
            "{upstream} is plain http, which would show the credential to the network: use https, or `allow-plain-http`"
        )
    });
    rule(config.socket.mode == 0o600 || config.socket.group.is_some(), "socket.mode", &|| {
        "0660 lets a group in: say which by `socket.group`".to_owned()
    });
    rule(config.socket.group.is_none() || config.socket.mode == 0o660, "socket.group", &|| {
        "the group may not open the socket: set `socket.mode` to \"0660\"".to_owned()
    });
    let session = &config.session.limits;
    rule(config.limits.memory.is_none_or(|all| all >= session.memory), "limits.memory", &|| {
        let needed = exact_size(session.memory);
        format!("no session fits that has the {needed} of `session.memory`: raise the one or lower the other")
    });
    rule(config.limits.cpus.is_none_or(|all| all.0 >= session.cpus.0), "limits.cpus", &|| {
        format!(
            "no session fits that has the {} CPUs of `session.cpus`: raise the one or lower the other",
            session.cpus
        )
    });
    problems
}
