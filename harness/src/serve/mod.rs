//! Serving NICs: each gets a thread for its state machine and one for its vfio-user socket, and a
//! port on the switch of its link.

mod ageing;
mod captures;
mod engine;
pub mod events;
mod faults;
mod handle;
mod model;
pub(crate) mod notes;
mod spec;
mod wake;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use log::error;
use rocinante_device::mlx5::{GuestPayload, NicConfig, vsc};
use rocinante_pci::{Function, FunctionConfig, Interrupts, Listener, Shutdown, VendorCapability};
use rocinante_wire::cable::{Cable, Control};
use rocinante_wire::switch::{Links, PortWatch, Wake};
use rocinante_wire::time::Time;

use crate::control::Doors;
use crate::faults::Faults;
use crate::ports::{self, PortSpec};
use ageing::Ageing;
use captures::Captures;
pub use captures::{CaptureRing, CaptureSpec, CaptureStatus, parse_size};
pub use engine::Engine;
use engine::Mailbox;
pub(crate) use engine::Plug;
use events::Events;
pub use faults::{DeviceFaultStatus, check_all_faults};
pub use handle::{PortStatus, ServerHandle};
use model::Model;
pub use spec::{DEFAULT_LINK, NicSpec, check_faults};
pub(crate) use spec::{mac_of, parse_mac};
use wake::Doorbell;

/// An engine answers within microseconds; one that does not has ended.
const ANSWER: Duration = Duration::from_secs(4);

/// MSI-X vectors of a NIC.
pub(crate) const VECTORS: u16 = 64;

/// The identity of a ConnectX-5, with everything of it in BAR 0.
fn function_config() -> FunctionConfig {
    FunctionConfig {
        vendor_id: 0x15b3,
        device_id: 0x1017,
        subsystem_vendor_id: 0x15b3,
        subsystem_id: 0x0020,
        class_code: 0x02_00_00,
        revision_id: 0,
        bar0_size: 32 << 20,
        msix_table_offset: 0x2000,
        msix_pba_offset: 0x3000,
        shared: None,
        vendor_capability: Some(VendorCapability {
            len: vsc::LEN,
            registers: Box::new(vsc::Gateway::new()),
        }),
    }
}

/// Real time as NICs see it: nanoseconds since the server started.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// What time it is.
    pub fn now(self) -> Time {
        Time(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What a server is to serve.
#[derive(Debug, Default)]
pub struct ServerConfig {
    /// The NICs.
    pub nics: Vec<NicSpec>,
    /// The ports that leave the process; a server has at least one of these or of those.
    pub ports: Vec<PortSpec>,
    /// A pcapng file that takes every frame of every link.
    pub capture: Option<PathBuf>,
    /// A ring of files for it instead of one.
    pub capture_ring: Option<CaptureRing>,
    /// Faults on the links, from the beginning on.
    pub faults: Faults,
    /// A socket to control the server by.
    pub control: Option<PathBuf>,
    /// Where metrics are to be had; port 0 for any that is free.
    pub metrics: Option<SocketAddr>,
}

struct Served {
    spec: NicSpec,
    watch: PortWatch<GuestPayload>,
    /// Talks to the engine to its end, so it ends first.
    pci: JoinHandle<Result<()>>,
    engine: JoinHandle<()>,
    mailbox: Arc<Mailbox>,
}

/// NICs being served, until it is stopped or dropped.
///
/// What can be asked of it is said at its [`ServerHandle`].
pub struct Server {
    // Closed first: who comes through asks the NICs.
    doors: Doors,
    threads: Threads,
    handle: ServerHandle,
    // Ends with the server.
    _ageing: Ageing,
}

/// What serves NICs and ports; ended when dropped, also where a server has not come into being.
struct Threads {
    nics: Vec<Served>,
    ports: Vec<ports::Served>,
    shutdown: Shutdown,
}

impl Server {
    /// Serves NICs and nothing besides. `capture` names a pcapng file that takes every frame.
    pub fn start(specs: &[NicSpec], capture: Option<&Path>) -> Result<Server> {
        Server::serve(ServerConfig {
            nics: specs.to_vec(),
            capture: capture.map(Path::to_path_buf),
            ..ServerConfig::default()
        })
    }

    /// Binds all sockets and starts serving.
    pub fn serve(config: ServerConfig) -> Result<Server> {
        let specs = config.nics.as_slice();
        spec::check(specs, &config.ports)?;
        check_all_faults(specs, &config.ports, &config.faults)?;
        let opened: Vec<ports::Opened> = config
            .ports
            .iter()
            .map(ports::open)
            .collect::<Result<_>>()?;
        let listeners: Vec<Listener> = specs
            .iter()
            .map(|spec| Listener::bind(&spec.socket))
            .collect::<Result<_, _>>()?;
        let control = Control::new();
        let captures = Captures::default();
        if let Some(path) = &config.capture {
            let spec = CaptureSpec {
                ring: config.capture_ring,
                ..CaptureSpec::new(path)
            };
            captures.start(&control, spec)?;
        }
        let events = Events::default();
        let links: Links<GuestPayload> = Links::new();
        let clock = Clock::start();
        let mut threads = Threads {
            nics: Vec::new(),
            ports: Vec::new(),
            shutdown: Shutdown::new().context("shutdown eventfd")?,
        };
        for (spec, listener) in specs.iter().zip(listeners) {
            let switch = links.get(&spec.link);
            let served = serve_one(
                spec,
                listener,
                &threads.shutdown,
                (clock, &events),
                |waker| {
                    let cable = Cable::new(&control, &spec.link, &spec.name(), Arc::clone(&waker));
                    (switch.add_port(&spec.name(), waker), cable)
                },
            )?;
            threads.nics.push(served);
        }
        for (spec, opened) in config.ports.iter().zip(opened) {
            let switch = links.get(&spec.link);
            let served = ports::Served::start(opened, &control, &switch, clock, &events)?;
            threads.ports.push(served);
        }
        let members = threads
            .nics
            .iter()
            .map(|nic| {
                (
                    nic.spec.clone(),
                    Arc::clone(&nic.mailbox),
                    nic.watch.clone(),
                )
            })
            .collect();
        let views = threads.ports.iter().map(|port| port.view().clone());
        let views = views.collect();
        let handle = ServerHandle::new(members, views, control, events, captures);
        handle.set_faults(config.faults)?;
        let doors = Doors::open(config.control.as_deref(), config.metrics, &handle)?;
        Ok(Server {
            doors,
            threads,
            handle,
            _ageing: Ageing::start(move || links.age(), ageing::PERIOD)?,
        })
    }

    /// Where metrics are to be had.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.doors.metrics_address()
    }

    /// For other threads.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Ends all: sockets are removed, the capture is complete.
    pub fn stop(mut self) -> Result<()> {
        self.end().and(self.finish_capture())
    }

    fn end(&mut self) -> Result<()> {
        self.doors = Doors::default();
        self.threads.end()
    }
}

impl Threads {
    fn end(&mut self) -> Result<()> {
        self.shutdown.trigger();
        self.ports.clear();
        let mut result = Ok(());
        for served in self.nics.drain(..) {
            let ended = joined(served.pci).and_then(|ended| ended);
            served.mailbox.stop();
            let ended = ended.and(joined(served.engine));
            let socket = served.spec.socket;
            result = result.and(ended.with_context(|| format!("NIC {}", socket.display())));
        }
        result
    }
}

fn joined<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))
}

impl Deref for Server {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            error!("{error:#}");
        }
    }
}

fn serve_one(
    spec: &NicSpec,
    listener: Listener,
    shutdown: &Shutdown,
    (clock, events): (Clock, &Events),
    plug: impl FnOnce(Arc<dyn Wake>) -> Plug,
) -> Result<Served> {
    let doorbell = Arc::new(Doorbell::default());
    let waker = Arc::clone(&doorbell);
    let plug = plug(Arc::new(move || waker.ring()));
    let watch = plug.0.watch();
    let mailbox = Arc::new(Mailbox::new(doorbell));
    let interrupts = Interrupts::new(VECTORS);
    let config = NicConfig {
        mac: spec.mac,
        name: spec.name(),
        vectors: VECTORS,
        manager: spec.manager,
    };
    let engine = Engine::new(
        config,
        spec,
        plug,
        Arc::clone(&mailbox),
        Arc::clone(&interrupts),
        clock,
        events.clone(),
    );
    let model = Model::new(Arc::clone(&mailbox), clock, spec.name(), events.clone());
    let mut function = Function::new(function_config(), Box::new(model), interrupts)?;

    let engine_thread = std::thread::Builder::new()
        .name(format!("nic-{}", spec.name()))
        .spawn(move || engine.run())
        .context("engine thread")?;
    let shutdown = shutdown.clone();
    let pci_thread = std::thread::Builder::new()
        .name(format!("pci-{}", spec.name()))
        .spawn(move || {
            let ended = listener
                .serve(&mut function, &shutdown)
                .map_err(anyhow::Error::from);
            ended.inspect_err(|failure| error!("{failure:#}"))
        })
        .context("vfio-user thread");
    let pci_thread = match pci_thread {
        Ok(thread) => thread,
        Err(error) => {
            mailbox.stop();
            return joined(engine_thread).and(Err(error));
        }
    };
    Ok(Served {
        spec: spec.clone(),
        watch,
        pci: pci_thread,
        engine: engine_thread,
        mailbox,
    })
}

/// The file names of sockets in `folder` for `count` NICs.
pub fn sockets_in(folder: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|n| folder.join(format!("nic{n}.sock")))
        .collect()
}
