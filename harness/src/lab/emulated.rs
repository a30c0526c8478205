//! The fabric that this program is about: emulated mlx5 NICs on one switch, served from within this process.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rocinante_device::mlx5::leak::{Goodbye, Inventory};

use crate::ports::{PortKind, PortSpec, VmPort};
use crate::serve::{DEFAULT_LINK, NicSpec, Server, ServerConfig, sockets_in};

use super::demo::Fabric;
use super::endpoint;
use super::guest::{Guest, GuestConfig};
use super::signals::Scratch;

/// NICs being served.
pub struct Emulated {
    server: Server,
    sockets: Vec<PathBuf>,
    vms: Vec<VmPort>,
    capture: Option<PathBuf>,
    // Holds the sockets.
    _folder: Scratch,
}

impl Emulated {
    /// Serves `count` NICs; every frame between them goes to `capture` too.
    pub fn start(count: usize, capture: Option<&Path>) -> Result<Self> {
        Self::start_with(count, capture, ServerConfig::default())
    }

    /// The same with what else is in `config`, such as ports and faults.
    pub fn start_with(count: usize, capture: Option<&Path>, config: ServerConfig) -> Result<Self> {
        Self::serve(count, 0, capture, config)
    }

    /// The same with `vms` ports for virtio-net cards on the same switch: `vm0` and so on.
    pub fn start_with_vms(count: usize, vms: usize, capture: Option<&Path>) -> Result<Self> {
        Self::serve(count, vms, capture, ServerConfig::default())
    }

    fn serve(
        count: usize,
        vms: usize,
        capture: Option<&Path>,
        mut config: ServerConfig,
    ) -> Result<Self> {
        let folder = Scratch::new()?;
        let sockets = sockets_in(folder.path(), count);
        let vms: Vec<VmPort> = (0..vms)
            .map(|n| VmPort::new(folder.path().join(format!("vm{n}.sock")), None))
            .collect::<Result<_, _>>()
            .map_err(anyhow::Error::msg)?;
        if let Some(parent) = capture.and_then(Path::parent) {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let port = |vm: &VmPort| PortSpec {
            name: vm.name(),
            kind: PortKind::Vm(vm.clone()),
            link: DEFAULT_LINK.to_owned(),
        };
        config.nics = sockets.iter().cloned().map(NicSpec::new).collect();
        config.ports.extend(vms.iter().map(port));
        config.capture = capture.map(Path::to_owned);
        Ok(Self {
            server: Server::serve(config)?,
            sockets,
            vms,
            capture: capture.map(Path::to_owned),
            _folder: folder,
        })
    }

    /// The virtio-net card for the `n`th VM, as [`attach`](Fabric::attach) is for NICs.
    pub fn attach_vm(&self, n: usize, mut config: GuestConfig) -> GuestConfig {
        if let Some(vm) = self.vms.get(n) {
            let mut options = vm.qemu_options(&vm.name());
            let [.., [_, device]] = &mut options;
            // Nobody boots from it.
            device.push_str(",romfile=");
            config.qemu_arguments.extend(options.into_iter().flatten());
        }
        config
    }

    /// Gives the next guest a NIC that another process serves.
    pub fn join(&mut self, socket: PathBuf) {
        self.sockets.push(socket);
    }

    /// The NICs.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Plugs the cable of guest `guest`'s NIC in, or pulls it; its driver sees the carrier come or go.
    pub fn plug_cable(&self, guest: usize, plugged: bool) -> Result<()> {
        self.server
            .plug_cable(guest, plugged)
            .with_context(|| format!("no NIC {guest}"))
    }

    /// Their vfio-user sockets.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }
}

impl Fabric for Emulated {
    fn attach(&self, guest: usize, config: GuestConfig) -> GuestConfig {
        match self.sockets.get(guest) {
            Some(socket) => config.nic(socket),
            None => config,
        }
    }

    fn load(&self, guest: &Guest) -> Result<()> {
        endpoint::load_mlx5(guest)
    }

    fn unload(&self, guest: &Guest) -> Result<()> {
        endpoint::unload_mlx5(guest)
    }

    fn leftovers(&self, guest: usize) -> Result<Vec<String>> {
        leftovers(&self.server, guest)
    }

    fn capture(&self) -> Result<Option<PathBuf>> {
        self.server.finish_capture()?;
        Ok(self.capture.clone())
    }
}

/// What the driver of the `nic`th NIC of `server` has left with it.
pub(crate) fn leftovers(server: &Server, nic: usize) -> Result<Vec<String>> {
    let findings = server
        .findings(nic)
        .context("the NIC has not seen its driver go")?;
    // Who goes in a hurry leaves all to the reset that follows.
    let left = match findings.goodbye {
        Goodbye::Teardown | Goodbye::Disable => Inventory {
            objects: findings.leaked_objects,
            pages: findings.leaked_pages,
        },
        Goodbye::ForceTeardown | Goodbye::Reset => {
            server.inventory(nic).context("the NIC has ended")?
        }
    };
    let pages = (left.pages != 0).then(|| format!("{} pages", left.pages));
    let objects = left.objects.iter();
    Ok(objects
        .map(|(kind, count)| format!("{count} {kind}"))
        .chain(pages)
        .collect())
}
