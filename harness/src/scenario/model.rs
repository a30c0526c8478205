//! A scenario in its checked form.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use rocinante_device::mlx5::PortManager;
use rocinante_device::mlx5::fault::Injection;
use rocinante_device::mlx5::inspect::Kind;
use rocinante_device::mlx5::port::LinkSpeed;
use rocinante_wire::MacAddr;

use super::compare::Comparison;
use super::counter::Counter;
use super::faults::FaultSets;
use super::pattern::Pattern;
use super::template::{Template, Variables};
use crate::lab::Series;
use crate::ports::PortSpec;

/// A scenario, with one value for each variable of its matrix.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file it was read from.
    pub path: PathBuf,
    /// Its name, with the variables' values in brackets.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// For all of it, from boot on.
    pub deadline: Duration,
    /// Whether a capture runs from the beginning.
    pub capture: bool,
    /// Variables of the file and its matrix, with their values.
    pub variables: Variables,
    /// What has to be booted.
    pub machines: Machines,
    /// What each guest's kernel may say, in the order of the guests.
    pub logs: Vec<LogPlan>,
    /// Sets of faults by name.
    pub faults: FaultSets,
    /// Those in force from the beginning.
    pub faults_at_start: Vec<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// Guests and NICs: scenarios with the same ones can follow one another in the same guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machines {
    /// The guests.
    pub guests: Vec<GuestPlan>,
    /// All NICs, those of the first guest first.
    pub nics: Vec<NicPlan>,
    /// Ports that lead elsewhere.
    pub ports: Vec<PortSpec>,
}

impl Machines {
    /// The NICs of a guest, with their numbers.
    pub fn nics_of(&self, guest: usize) -> impl Iterator<Item = (usize, &NicPlan)> {
        self.nics
            .iter()
            .enumerate()
            .filter(move |(_, nic)| nic.guest == guest)
    }

    /// The number of the NIC called `name`.
    pub fn nic(&self, name: &str) -> Option<usize> {
        self.nics.iter().position(|nic| nic.name == name)
    }

    /// The number of the guest called `name`.
    pub fn guest(&self, name: &str) -> Option<usize> {
        self.guests.iter().position(|guest| guest.name == name)
    }
}

/// A guest to be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPlan {
    /// Its name.
    pub name: String,
    /// What runs in it.
    pub system: System,
    /// Virtual processors.
    pub processors: u32,
    /// MiB.
    pub memory: u32,
    /// What is done to it before the first step and when it has started anew.
    pub setup: Setup,
    /// Whether it starts anew by itself when it is reset.
    pub restarts: bool,
    /// Further arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// Further words for the kernel.
    pub kernel_arguments: Vec<String>,
}

/// What runs in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// The lab's Linux.
    Linux {
        /// Its kernel; that of the command line if `None`.
        kernel: Option<KernelPlan>,
        /// A folder whose files are laid over the guest's root.
        files: Option<PathBuf>,
    },
    /// FreeBSD from an image.
    FreeBsd {
        /// The image.
        image: PathBuf,
        /// Root's password, where it has one.
        password: Option<String>,
    },
}

/// A Linux kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KernelPlan {
    /// One that the lab prepares.
    Series(Series),
    /// One of the user's.
    Own {
        /// A bzImage or vmlinux.
        image: PathBuf,
        /// Where its modules are.
        modules: Option<PathBuf>,
    },
}

/// How far a guest is made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// It has booted.
    Boot,
    /// The drivers of its NICs are loaded.
    Driver,
    /// Its interfaces have addresses and their links are up.
    Network,
}

/// A NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicPlan {
    /// The name of its port, and of its variables.
    pub name: String,
    /// The guest that has it.
    pub guest: usize,
    /// MAC address.
    pub mac: MacAddr,
    /// The link it is plugged into.
    pub link: String,
    /// What the far end of its cable can do.
    pub speed: LinkSpeed,
    /// Whether the driver manages its port.
    pub manager: PortManager,
    /// The address of its interface.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The MTU of its interface.
    pub mtu: u16,
}

/// What a guest's kernel may say.
#[derive(Clone, Debug, Default)]
pub struct LogPlan {
    /// It may say anything.
    pub ignored: bool,
    /// It may say this, of what else would be a complaint.
    pub allowed: Vec<Regex>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line where it begins.
    pub line: usize,
    /// Its name in reports.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// What has to come of it.
    pub expect: Expect,
    /// For what is done.
    pub deadline: Duration,
    /// If set, it is done again, for so long, until all expectations hold.
    pub within: Option<Duration>,
    /// Whether the next step is done even if this one fails.
    pub go_on: bool,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Nothing.
    Check,
    /// Runs a command in a guest and waits for its end.
    Run {
        /// The guest.
        guest: usize,
        /// The command.
        command: Template,
        /// Whether what it prints to standard error is kept apart.
        apart: bool,
    },
    /// Starts a command in a guest.
    Start {
        /// The guest.
        guest: usize,
        /// The command.
        command: Template,
        /// By which name it is waited for.
        job: String,
        /// A command that succeeds when the job is ready.
        ready: Option<Template>,
        /// Whether what it prints to standard error is kept apart.
        apart: bool,
    },
    /// Waits for the end of a job.
    Wait {
        /// The job.
        job: String,
    },
    /// Ends a job.
    Kill {
        /// The job.
        job: String,
    },
    /// Loads or unloads a guest's drivers.
    Driver {
        /// The guest.
        guest: usize,
        /// What is done.
        change: DriverChange,
    },
    /// Gives a guest's interfaces their addresses.
    Configure {
        /// The guest.
        guest: usize,
    },
    /// Plugs cables in, or pulls them.
    Plug {
        /// The NICs.
        nics: Vec<usize>,
        /// In, not out.
        plugged: bool,
    },
    /// Changes what the far ends of cables can do.
    Speed(Vec<(usize, LinkSpeed)>),
    /// Replaces all faults by those of these sets.
    Faults(Vec<String>),
    /// Lets something go wrong at a NIC now.
    Inject {
        /// The NIC.
        nic: usize,
        /// What.
        injection: Injection,
    },
    /// Starts a capture or ends it.
    Capture {
        /// Starts one.
        start: bool,
    },
    /// Switches a guest.
    Power {
        /// The guest.
        guest: usize,
        /// How.
        change: PowerChange,
    },
}

impl Action {
    /// The guest that it is about.
    pub fn guest(&self) -> Option<usize> {
        match self {
            Self::Run { guest, .. }
            | Self::Start { guest, .. }
            | Self::Driver { guest, .. }
            | Self::Configure { guest }
            | Self::Power { guest, .. } => Some(*guest),
            _ => None,
        }
    }

    /// Whether it is a command that ends, with a status and an output.
    pub fn has_output(&self) -> bool {
        matches!(
            self,
            Self::Run { .. } | Self::Wait { .. } | Self::Kill { .. }
        )
    }
}

/// What is done to drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChange {
    /// Loads them.
    Load,
    /// Unloads them. Nothing may be left with the device.
    Unload,
    /// Unloads and loads them and configures what appears.
    Reload,
}

/// What is done to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerChange {
    /// Resets it as by a button.
    Reset,
    /// Has it start anew by itself.
    Reboot,
    /// Ends QEMU without a word.
    Kill,
    /// Has it power off by itself.
    Off,
    /// Boots it again.
    Boot,
}

/// What has to come of a step.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// The exit status; `None` if any will do.
    pub status: Option<Comparison>,
    /// What a command prints, and what it does not.
    pub texts: Vec<TextWanted>,
    /// Figures in the output.
    pub values: Vec<ValueWanted>,
    /// Counters.
    pub counters: Vec<CounterWanted>,
    /// What NICs hold for their drivers.
    pub objects: Vec<ObjectsWanted>,
    /// What is in the capture that the step ends.
    pub packets: Vec<PacketsWanted>,
    /// In a guest's kernel's log.
    pub kernel_log: Vec<(usize, Pattern)>,
    /// Not there.
    pub no_kernel_log: Vec<(usize, Pattern)>,
    /// From when on what the kernel says counts.
    pub log_since: Option<Since>,
    /// NICs and whether they have a carrier, as their drivers see it.
    pub carrier: Vec<(usize, bool)>,
    /// How long what is done takes, in seconds.
    pub duration: Option<Comparison>,
    /// What an unloaded driver may leave: `None` for nothing.
    pub left: Option<Pattern>,
}

impl Expect {
    /// Whether nothing is expected but perhaps a status.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
            && self.values.is_empty()
            && self.counters.is_empty()
            && self.objects.is_empty()
            && self.packets.is_empty()
            && self.kernel_log.is_empty()
            && self.no_kernel_log.is_empty()
            && self.carrier.is_empty()
            && self.duration.is_none()
    }
}

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// All of it: as it came, or standard output first where the two are kept apart.
    Both,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Something that a command prints, or does not.
#[derive(Clone, Debug)]
pub struct TextWanted {
    /// Where.
    pub stream: Stream,
    /// Whether it is there.
    pub present: bool,
    /// What.
    pub pattern: Pattern,
}

/// How many objects of a kind a NIC has.
#[derive(Clone, Debug)]
pub struct ObjectsWanted {
    /// The NIC.
    pub nic: usize,
    /// The kind; `None` for the pages that the driver has given it.
    pub kind: Option<Kind>,
    /// Only objects that say this of themselves, in the words of the control socket.
    pub having: Vec<(String, Template)>,
    /// How their number has to compare.
    pub is: Comparison,
}

/// How many packets of a capture a display filter lets through.
#[derive(Clone, Debug)]
pub struct PacketsWanted {
    /// The filter, as Wireshark has it.
    pub filter: Template,
    /// Its line and column in the file.
    pub place: (usize, usize),
    /// How their number has to compare.
    pub is: Comparison,
}

/// A figure in an output.
#[derive(Clone, Debug)]
pub struct ValueWanted {
    /// Finds it, by its first group.
    pub pattern: Pattern,
    /// How it has to compare.
    pub is: Option<Comparison>,
    /// The variable that takes it.
    pub save: Option<String>,
}

/// A counter's growth.
#[derive(Clone, Debug)]
pub struct CounterWanted {
    /// The counter.
    pub counter: Counter,
    /// How its growth has to compare.
    pub is: Comparison,
    /// From when on it counts.
    pub since: Since,
}

/// From when on a counter's growth counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Since {
    /// From before the first step.
    Start,
    /// From the beginning of the step of this number.
    Step(usize),
}

/// Names of steps that others count from.
pub type Labels = BTreeMap<String, usize>;
