//! Checked traffic between two guests by a program of our own, which says to the packet what became of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Index;
use std::time::Duration;

use rocinante_harness::lab::{self, Job, LabConfig, Progress};

use crate::guests::{ADDRESSES, PATIENCE, Pair};

/// Its source.
const SOURCE: &str = include_str!("../guest/verbs.c");

/// Where it is in the guests.
const PROGRAM: &str = "/run/verbs";

/// Ends an endless client.
const STOP: &str = "/run/verbs-stop";

/// The port at which the second guest serves.
const PORT: u16 = 19_000;

/// What the program said, by name.
#[derive(Clone, Debug)]
pub struct Report(BTreeMap<String, String>);

impl Report {
    fn parse(text: &str) -> Report {
        let words = text.split_whitespace();
        let pairs = words.filter_map(|word| word.split_once('='));
        Report(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
    }

    /// A number that it said.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let value = self[name].parse();
        value.unwrap_or_else(|_| panic!("{name} in {self:?}"))
    }

    /// Status of the first work completion that failed, 0 if none has.
    #[track_caller]
    pub fn status(&self) -> u64 {
        self.number("status")
    }

    /// From the first post to the last completion.
    #[track_caller]
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.number("us"))
    }

    /// All has been done, and each message was found as it was sent, once and in order.
    #[track_caller]
    pub fn assert_right(&self, what: &str) {
        for name in ["status", "stuck", "bad-here", "bad", "misplaced"] {
            assert_eq!(self.number(name), 0, "{what}: {name} in {self:?}");
        }
    }
}

impl Index<&str> for Report {
    type Output = str;

    #[track_caller]
    fn index(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(value) => value,
            None => panic!("no {name} in {self:?}"),
        }
    }
}

/// The program, with its server in the second guest.
pub struct Verbs {
    server: Job,
}

impl Verbs {
    /// Compiles and copies it, and starts the server.
    pub fn start(pair: &Pair<'_>) -> Verbs {
        let program = lab::compile(SOURCE, &LabConfig::default(), &Progress::shown());
        let program = program.unwrap_or_else(|error| panic!("{error:#}"));
        let program = fs::read(program).expect("the program");
        for guest in &pair.guests {
            guest.put(PROGRAM, &program).expect("a copy");
        }
        let gid = pair.ends[1].gid_index;
        let server = pair.spawn(1, &format!("exec {PROGRAM} serve {PORT} {gid}"));
        pair.listening(1, PORT);
        Verbs { server }
    }

    /// The command line of a client.
    pub fn command(pair: &Pair<'_>, options: &str) -> String {
        let gid = pair.ends[0].gid_index;
        format!("{PROGRAM} {} {PORT} {gid} {options}", ADDRESSES[1])
    }

    /// Runs a client in the first guest.
    #[track_caller]
    pub fn run(&self, pair: &Pair<'_>, options: &str) -> Report {
        self.spawn(pair, options).finish()
    }

    /// Starts a client in the first guest.
    #[track_caller]
    pub fn spawn(&self, pair: &Pair<'_>, options: &str) -> Running {
        Running(pair.spawn(0, &Verbs::command(pair, options)))
    }

    /// Starts a client that goes on until it is told to stop, and waits until it has got going.
    #[track_caller]
    pub fn endless(&self, pair: &Pair<'_>, options: &str) -> Running {
        pair.sh(0, &format!("rm -f {STOP}"));
        let running = self.spawn(pair, &format!("{options} until-told=1"));
        goes_on(pair);
        running
    }

    /// Ends the server.
    pub fn stop(self) {
        self.server.kill().expect("kill");
        self.server.wait(PATIENCE).expect("the server ends");
    }
}

/// Waits until packets of RDMA pass at both guests.
#[track_caller]
pub fn goes_on(pair: &Pair<'_>) {
    for n in [0, 1] {
        let file = format!(
            "/sys/class/infiniband/{}/ports/1/counters/port_rcv_packets",
            pair.ends[n].device
        );
        pair.sh(
            n,
            &format!(
                "end=$(($(cat {file}) + 50)); until [ $(cat {file}) -ge $end ]; do sleep 0.02; done"
            ),
        );
    }
}

/// A client under way.
pub struct Running(Job);

impl Running {
    /// Waits for its end.
    #[track_caller]
    pub fn finish(self) -> Report {
        Report::parse(&crate::guests::finish(self.0, "verbs"))
    }

    /// Tells an endless one to stop, and waits for its end.
    #[track_caller]
    pub fn stop(self, pair: &Pair<'_>) -> Report {
        pair.sh(0, &format!("touch {STOP}"));
        self.finish()
    }
}
