//! One checked run of traffic under rules: what was sent, what the drivers' counters say that it has cost, what the rules hit.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rocinante_tests::guests::{Pair, finish};
use rocinante_tests::verbs::{Report, Verbs};
use rocinante_wire::cable::Control;
use rocinante_wire::fault::{Action, RuleCounters, Rules};

/// Two guests: the first asks, the second serves.
pub struct Bench<'a> {
    pub pair: Pair<'a>,
    pub verbs: Verbs,
    /// Those after the last run, if nothing has happened since.
    counters: RefCell<Option<[Changes; 2]>>,
    /// How often rules have touched packets, in all runs, by their names.
    pub touched: RefCell<BTreeMap<String, u64>>,
}

/// The first guest, and its NIC: the requester.
pub const ASKING: usize = 0;
/// The second guest, and its NIC: the responder.
pub const SERVING: usize = 1;

/// The counters of trouble, as Linux names them.
const COUNTERS: &str =
    "cd /sys/class/infiniband/mlx5_0/ports/1/hw_counters && grep . * ; ethtool -S eth0 | tr -d ' '";

/// Those that normal traffic advances.
const USUAL: &[&str] = &[
    "rx_write_requests",
    "rx_read_requests",
    "rx_atomic_requests",
    "lifespan",
];

/// How counters have changed.
pub type Changes = BTreeMap<String, i64>;

/// What a run has come to.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub report: Report,
    /// Of RDMA's counters in each guest, but for the usual ones.
    pub rdma: [Changes; 2],
    /// Of the interfaces' counters that tell of errors and pauses.
    pub port: [Changes; 2],
    /// What each rule has met.
    pub rules: BTreeMap<String, RuleCounters>,
}

pub fn parse(rules: &str) -> Rules {
    rules
        .parse()
        .unwrap_or_else(|error| panic!("{rules}\n{error}"))
}

/// `name:value` of each line.
fn values(text: &str) -> Changes {
    let pairs = text.lines().filter_map(|line| line.rsplit_once(':'));
    pairs
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn changes(before: &Changes, after: &Changes) -> Changes {
    let changed = after
        .iter()
        .map(|(name, now)| (name.clone(), now - before.get(name).unwrap_or(&0)));
    changed.filter(|(_, change)| *change != 0).collect()
}

impl<'a> Bench<'a> {
    pub fn new(pair: Pair<'a>) -> Self {
        let verbs = Verbs::start(&pair);
        Bench {
            pair,
            verbs,
            counters: RefCell::default(),
            touched: RefCell::default(),
        }
    }

    pub fn control(&self) -> &Control {
        self.pair.fabric.server().control()
    }

    /// Puts rules into force; none for an empty text.
    pub fn set(&self, rules: &str) {
        self.control().set_rules(parse(rules));
    }

    pub fn hits(&self) -> BTreeMap<String, RuleCounters> {
        let counters = self.control().rules().counters();
        counters
            .into_iter()
            .map(|rule| (rule.name.clone(), rule))
            .collect()
    }

    pub fn counters(&self) -> [Changes; 2] {
        let other = self.pair.spawn(SERVING, COUNTERS);
        let here = self.pair.sh(ASKING, COUNTERS);
        [values(&here), values(&finish(other, COUNTERS))]
    }

    /// Traffic under rules, which are gone when this returns. Its transport timer is so long (1.07 s) that none runs out
    /// because a thread of ours had to wait for a processor; what is about timers says how long they are.
    #[track_caller]
    pub fn run(&self, name: &str, rules: &str, options: &str) -> Outcome {
        let timer = if options.contains("timeout=") {
            ""
        } else {
            " timeout=18"
        };
        let options = format!("{options}{timer}");
        self.measure(name, rules, || self.verbs.run(&self.pair, &options))
    }

    /// Endless traffic, with which something happens under rules.
    #[track_caller]
    pub fn under(&self, name: &str, options: &str, rules: &str, act: impl FnOnce()) -> Outcome {
        self.measure(name, "", || {
            let traffic = self.verbs.endless(&self.pair, options);
            self.set(rules);
            act();
            traffic.stop(&self.pair)
        })
    }

    #[track_caller]
    fn measure(&self, name: &str, rules: &str, act: impl FnOnce() -> Report) -> Outcome {
        let known = self.counters.take();
        let before = known.unwrap_or_else(|| self.counters());
        self.set(rules);
        let report = act();
        let rules = self.hits();
        for rule in self.control().rules().rules() {
            if *rule.action() != Action::Pass {
                let mut touched = self.touched.borrow_mut();
                *touched.entry(rule.name().to_owned()).or_default() += rule.counters().hits;
            }
        }
        self.set("");
        let after = self.counters();
        let all = [0, 1].map(|n| changes(&before[n], &after[n]));
        let pick = |of_port: bool| {
            all.each_ref().map(|all| {
                let there = |name: &str| {
                    let is_rdma = before[0].contains_key(name) && RDMA.contains(&name);
                    is_rdma != of_port
                };
                let wanted = |name: &str| {
                    !USUAL.contains(&name)
                        && (!of_port || TROUBLE.iter().any(|word| name.contains(word)))
                };
                let picked = all.iter().filter(|(name, _)| there(name) && wanted(name));
                picked
                    .map(|(name, change)| (name.clone(), *change))
                    .collect::<Changes>()
            })
        };
        self.counters.replace(Some(after));
        let outcome = Outcome {
            name: name.to_owned(),
            rdma: pick(false),
            port: pick(true),
            report,
            rules,
        };
        println!(
            "{:>9.3} ms {name}: {:?} {:?} {:?}",
            outcome.report.time().as_secs_f64() * 1e3,
            outcome.rdma,
            outcome.port,
            outcome
                .rules
                .values()
                .map(|rule| (rule.matches, rule.hits))
                .collect::<Vec<_>>(),
        );
        outcome
    }
}

/// RDMA's counters.
const RDMA: &[&str] = &[
    "duplicate_request",
    "implied_nak_seq_err",
    "local_ack_timeout_err",
    "np_cnp_sent",
    "np_ecn_marked_roce_packets",
    "out_of_buffer",
    "out_of_sequence",
    "packet_seq_err",
    "req_cqe_error",
    "req_cqe_flush_error",
    "req_remote_access_errors",
    "req_remote_invalid_request",
    "req_rnr_retries_exceeded",
    "req_transport_retries_exceeded",
    "resp_cqe_error",
    "resp_cqe_flush_error",
    "resp_local_length_error",
    "resp_remote_access_errors",
    "rnr_nak_retry_err",
    "roce_adp_retrans",
    "roce_adp_retrans_to",
    "roce_slow_restart",
    "roce_slow_restart_cnps",
    "roce_slow_restart_trans",
    "rp_cnp_handled",
    "rp_cnp_ignored",
    "rx_atomic_requests",
    "rx_icrc_encapsulated",
    "rx_read_requests",
    "rx_write_requests",
];

/// What the names of an interface's counters of trouble contain.
const TROUBLE: &[&str] = &[
    "err",
    "discard",
    "crc",
    "pause",
    "drop",
    "fault",
    "link_down",
];

impl Outcome {
    /// Exactly these of RDMA's counters have changed at the one who asked, and at the one who served.
    #[track_caller]
    pub fn assert_rdma(&self, asking: &[(&str, i64)], serving: &[(&str, i64)]) {
        let expected = [asking, serving].map(|side| {
            let pairs = side
                .iter()
                .map(|(name, change)| ((*name).to_owned(), *change));
            pairs.collect::<Changes>()
        });
        assert_eq!(self.rdma, expected, "{}: {:?}", self.name, self.report);
    }

    #[track_caller]
    pub fn assert_right(&self) {
        self.report.assert_right(&self.name);
    }

    /// How often a rule has hit.
    #[track_caller]
    pub fn hits(&self, rule: &str) -> u64 {
        match self.rules.get(rule) {
            Some(rule) => rule.hits,
            None => panic!("{}: no rule '{rule}'", self.name),
        }
    }
}
