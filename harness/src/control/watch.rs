//! Events that nobody tells by himself: counters are looked at now and then, while somebody listens.
//! So the data path does nothing for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rocinante_wire::fault::Rules;
use serde_json::json;

use crate::serve::ServerHandle;

/// How often to look.
const PERIOD: Duration = Duration::from_millis(100);

/// After its first hit, a rule is told of no more often.
const REPEAT: Duration = Duration::from_secs(1);

/// The thread; ended when dropped.
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches `server`.
    pub fn start(server: ServerHandle) -> Result<Watch> {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                let mut seen = Seen::new(&server);
                while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    if server.events().wanted() {
                        seen.look(&server, Instant::now());
                    }
                }
            })
            .context("watch thread")?;
        Ok(Watch {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

#[derive(Clone, Copy)]
struct Rule {
    hits: u64,
    told: Instant,
}

/// What was seen at the last look.
struct Seen {
    rules: Arc<Rules>,
    /// Faults that have hit, by name.
    hits: HashMap<String, Rule>,
    /// The number of the last capture that has failed.
    failed: Option<u64>,
}

impl Seen {
    fn new(server: &ServerHandle) -> Seen {
        Seen {
            rules: server.control().rules(),
            hits: HashMap::new(),
            failed: None,
        }
    }

    fn look(&mut self, server: &ServerHandle, now: Instant) {
        self.rules(server, now);
        self.capture(server);
    }

    fn rules(&mut self, server: &ServerHandle, now: Instant) {
        let rules = server.control().rules();
        if !Arc::ptr_eq(&rules, &self.rules) {
            self.hits.clear();
            self.rules = Arc::clone(&rules);
        }
        for counters in server.fault_counters() {
            let before = self.hits.get(&counters.name).copied();
            let is_new = match before {
                None => counters.hits > 0,
                Some(rule) => counters.hits > rule.hits && now >= rule.told + REPEAT,
            };
            if !is_new {
                continue;
            }
            server.events().tell("FAULT_HIT", || {
                json!({
                    "name": counters.name,
                    "hits": counters.hits,
                    "matches": counters.matches,
                    "first": before.is_none(),
                })
            });
            let hits = counters.hits;
            self.hits.insert(counters.name, Rule { hits, told: now });
        }
    }

    fn capture(&mut self, server: &ServerHandle) {
        let Some(status) = server.capture_status() else {
            return;
        };
        // One may follow the other between two looks.
        if status.error.is_none() || self.failed == Some(status.number) {
            return;
        }
        self.failed = Some(status.number);
        let path = status.spec.path.display().to_string();
        let data = || json!({ "path": path, "error": status.error });
        server.events().tell("CAPTURE_FAILED", data);
    }
}
