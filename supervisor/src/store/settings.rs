//! What was set while a service ran, and lasts: agents' limits.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::params;

use super::writer::{Store, StoreError};
use crate::agents::{AgentName, SetLimits};

/// Settings of agents, by their names.
const AGENT: &str = "agent";

impl Store {
    /// Keeps what was set of an agent's limits, instead of what was set before; `None`: nothing.
    pub async fn set_agent_limits(&self, agent: &AgentName, limits: Option<SetLimits>) -> Result<(), StoreError> {
        let agent = agent.to_string();
        self.call(move |connection| {
            match limits {
                Some(limits) => connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO settings (scope, name, value, set_at) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![AGENT, agent, serde_json::to_string(&limits)?, Timestamp::now().to_string()])?,
                None => connection
                    .prepare_cached("DELETE FROM settings WHERE scope = ?1 AND name = ?2")?
                    .execute(params![AGENT, agent])?,
            };
            Ok(())
        })
        .await
    }

    /// What was set of agents' limits. What cannot be read, such as of a newer aigo, is said in the log and left out.
    pub async fn agent_limits(&self) -> Result<BTreeMap<AgentName, SetLimits>, StoreError> {
        self.call(|connection| {
            let mut query = connection.prepare_cached("SELECT name, value FROM settings WHERE scope = ?1")?;
            let rows = query.query_map([AGENT], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let mut set = BTreeMap::new();
            for row in rows {
                let (name, value) = row?;
                match (name.parse::<AgentName>(), serde_json::from_str(&value)) {
                    (Ok(agent), Ok(limits)) => drop(set.insert(agent, limits)),
                    (Err(error), _) => tracing::error!("limits that were set are not held: {error}"),
                    (Ok(agent), Err(error)) => {
                        tracing::error!(
                            "limits that were set for agent `{agent}` cannot be read, and are not held: {error}"
                        );
                    }
                }
            }
            Ok(set)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCpus;

    #[tokio::test]
    async fn what_was_set_is_there_for_the_next_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        let agents: [AgentName; 2] = ["one", "two"].map(|name| name.parse().unwrap());
        let limits = SetLimits { cpus: Some(Some(MilliCpus(500))), memory: Some(None), ..SetLimits::default() };
        {
            let store = Store::open(&path).unwrap();
            for agent in &agents {
                store.set_agent_limits(agent, Some(SetLimits::default())).await.unwrap();
                store.set_agent_limits(agent, Some(limits)).await.unwrap();
            }
            store.set_agent_limits(&agents[1], None).await.unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.agent_limits().await.unwrap(), BTreeMap::from([(agents[0].clone(), limits)]));
        let spoil = |connection: &mut rusqlite::Connection| {
            let rows =
                "INSERT INTO settings VALUES ('agent', 'new', '{\"tokens\": 1}', ''), ('agent', 'A B', '{}', '')";
            Ok(connection.execute(rows, [])?)
        };
        store.call(spoil).await.unwrap();
        assert_eq!(store.agent_limits().await.unwrap().len(), 1, "what cannot be read hides nothing else");
    }
}
