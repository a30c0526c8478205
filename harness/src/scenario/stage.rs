//! Guests and NICs of a scenario, booted. Knows how they are brought up, switched and cleaned up, not what is done with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::model::{DriverChange, GuestPlan, KernelPlan, Machines, PowerChange, Setup, System};
use super::network::{self, End};
use super::template::Variables;
use crate::faults::Faults;
use crate::lab::freebsd::{FreeBsd, FreeBsdConfig, Image, Login, Machine};
use crate::lab::{
    Guest, GuestConfig, Lab, LabConfig, OwnKernel, Progress, Scratch, leftovers, load_mlx5,
    unload_mlx5,
};
use crate::serve::{CaptureSpec, NicSpec, Server, ServerConfig};

/// A guest in good order powers off in less.
const POWER_OFF: Duration = Duration::from_secs(30);
/// Of drivers, on emulated processors.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends what jobs may have left in a guest.
const TIDY: &str = "for j in /run/jobs/*; do p=$(cat $j/pid); case $p in '' | $$) ;; *) kill -9 -$p ;; esac; done 2>/dev/null
    ip link show type vlan 2>/dev/null | sed -n 's/^[0-9]*: \\([^@:]*\\)[@:].*/\\1/p' | while read -r i; do ip link delete $i; done
    true";

/// Prepared labs, by what runs in their guests.
pub struct Labs {
    config: LabConfig,
    labs: HashMap<(KernelPlan, Option<PathBuf>), Lab>,
}

impl Labs {
    /// Labs that are like `config`, whose kernel is that of guests that name none.
    pub fn new(config: LabConfig) -> Self {
        Self {
            config,
            labs: HashMap::new(),
        }
    }

    /// What they are like.
    pub fn config(&self) -> &LabConfig {
        &self.config
    }

    /// Prepares what these need.
    pub fn prepare(&mut self, machines: &Machines, progress: &Progress) -> Result<()> {
        for guest in &machines.guests {
            self.get(&guest.system, progress)?;
        }
        Ok(())
    }

    /// The lab for guests of this system.
    fn get(&mut self, system: &System, progress: &Progress) -> Result<&Lab> {
        let usual = match &self.config.own_kernel {
            Some(own) => KernelPlan::Own {
                image: own.image.clone(),
                modules: own.modules.clone(),
            },
            None => KernelPlan::Series(self.config.kernel),
        };
        let key = match system {
            System::Linux { kernel, files } => (kernel.clone().unwrap_or(usual), files.clone()),
            System::FreeBsd { .. } => (KernelPlan::Series(self.config.kernel), None),
        };
        if !self.labs.contains_key(&key) {
            let mut config = self.config.clone();
            match &key.0 {
                KernelPlan::Series(series) => {
                    config.kernel = *series;
                    config.own_kernel = None;
                }
                KernelPlan::Own { image, modules } => {
                    config.own_kernel = Some(OwnKernel {
                        image: image.clone(),
                        modules: modules.clone(),
                    });
                }
            }
            config.files.clone_from(&key.1);
            let lab = Lab::prepare(&config, progress)?;
            self.labs.insert(key.clone(), lab);
        }
        self.labs.get(&key).context("the lab was just made")
    }
}

/// Booted guests with served NICs.
pub struct Stage {
    /// What it is made of.
    pub machines: Machines,
    /// Serves the NICs.
    pub server: Server,
    /// `None` where a guest has been switched off.
    guests: Vec<Option<Machine>>,
    labs: Vec<Lab>,
    sockets: Vec<PathBuf>,
    // Holds the sockets.
    _folder: Scratch,
}

impl Stage {
    /// Serves the NICs and boots the guests, side by side. Logs go to `logs`.
    pub fn boot(
        machines: &Machines,
        labs: &mut Labs,
        logs: &Path,
        capture: Option<&Path>,
        faults: Faults,
        progress: &Progress,
    ) -> Result<Self> {
        let labs: Vec<Lab> = machines
            .guests
            .iter()
            .map(|guest| {
                let lab = labs.get(&guest.system, progress)?;
                Ok(lab.with_logs(logs.to_owned()))
            })
            .collect::<Result<_>>()?;
        let folder = Scratch::new()?;
        // Ports are named after their sockets.
        let sockets: Vec<PathBuf> = machines
            .nics
            .iter()
            .map(|nic| folder.path().join(format!("{}.sock", nic.name)))
            .collect();
        let nics = machines
            .nics
            .iter()
            .zip(&sockets)
            .map(|(plan, socket)| NicSpec {
                socket: socket.clone(),
                mac: plan.mac,
                link: plan.link.clone(),
                speed: plan.speed,
                manager: plan.manager,
            })
            .collect();
        let server = Server::serve(ServerConfig {
            nics,
            capture: capture.map(Path::to_path_buf),
            ports: machines.ports.clone(),
            faults,
            ..ServerConfig::default()
        })?;
        let mut stage = Self {
            machines: machines.clone(),
            server,
            guests: Vec::new(),
            labs,
            sockets,
            _folder: folder,
        };
        let booted: Vec<Result<Machine>> = std::thread::scope(|scope| {
            let boots: Vec<_> = (0..machines.guests.len())
                .map(|guest| {
                    let stage = &stage;
                    scope.spawn(move || stage.boot_one(guest))
                })
                .collect();
            boots
                .into_iter()
                .map(|boot| {
                    boot.join()
                        .unwrap_or_else(|_| bail!("booting a guest panicked"))
                })
                .collect()
        });
        for guest in booted {
            stage.guests.push(Some(guest?));
        }
        Ok(stage)
    }

    fn boot_one(&self, guest: usize) -> Result<Machine> {
        let plan = self.plan(guest)?;
        let lab = self.labs.get(guest).context("no lab")?;
        let mut sockets = self
            .machines
            .nics_of(guest)
            .filter_map(|(nic, _)| self.sockets.get(nic));
        match &plan.system {
            System::Linux { .. } => {
                let mut config = GuestConfig::new(&plan.name);
                config.processors = plan.processors;
                config.memory = plan.memory;
                config.restarts = plan.restarts;
                config.nics = sockets.cloned().collect();
                config.qemu_arguments.clone_from(&plan.qemu_arguments);
                config.kernel_arguments.clone_from(&plan.kernel_arguments);
                Ok(Machine::Linux(lab.boot(&config)?))
            }
            System::FreeBsd { image, password } => {
                let config = FreeBsdConfig {
                    name: plan.name.clone(),
                    image: Image::open(Some(image))?,
                    login: Login {
                        user: "root".into(),
                        password: password.clone(),
                    },
                    nic: sockets.next().context("no NIC")?.clone(),
                    memory: plan.memory,
                    processors: plan.processors,
                };
                Ok(Machine::FreeBsd(FreeBsd::boot(&config, lab)?))
            }
        }
    }

    fn plan(&self, guest: usize) -> Result<&GuestPlan> {
        self.machines.guests.get(guest).context("no such guest")
    }

    /// A guest that runs.
    pub fn guest(&self, guest: usize) -> Result<&Machine> {
        let name = &self.plan(guest)?.name;
        self.guests
            .get(guest)
            .and_then(Option::as_ref)
            .with_context(|| format!("guest {name} does not run"))
    }

    /// Guests that run, by number.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Machine)> {
        self.guests
            .iter()
            .enumerate()
            .filter_map(|(n, guest)| Some((n, guest.as_ref()?)))
    }

    /// Whether all guests still run.
    pub fn is_whole(&self) -> bool {
        self.guests.iter().all(|guest| match guest {
            Some(Machine::Linux(guest)) => guest.is_running(),
            Some(Machine::FreeBsd(_)) => true,
            None => false,
        })
    }

    /// What runs in each guest.
    pub fn systems(&self) -> Vec<(String, String)> {
        self.running()
            .map(|(_, guest)| {
                let system = guest.system().unwrap_or_else(|error| format!("{error:#}"));
                (guest.name().to_owned(), system)
            })
            .collect()
    }

    /// Does to a guest what it wants done before the first step. What is found out goes to `variables`.
    pub fn set_up(&self, guest: usize, variables: &mut Variables) -> Result<()> {
        let setup = self.plan(guest)?.setup;
        if self.machines.nics_of(guest).next().is_none() {
            return Ok(());
        }
        if setup >= Setup::Driver {
            self.load(guest)?;
        }
        if setup >= Setup::Network {
            self.configure(guest, variables)?;
        }
        Ok(())
    }

    /// The same with all guests, side by side.
    pub fn set_up_all(&self, variables: &mut Variables) -> Result<()> {
        let found: Vec<Result<Variables>> = std::thread::scope(|scope| {
            let guests: Vec<_> = (0..self.machines.guests.len())
                .map(|guest| {
                    scope.spawn(move || {
                        let mut found = Variables::new();
                        self.set_up(guest, &mut found)
                            .with_context(|| format!("guest {}", self.name(guest)))?;
                        Ok(found)
                    })
                })
                .collect();
            guests
                .into_iter()
                .map(|guest| guest.join().unwrap_or_else(|_| bail!("a panic")))
                .collect()
        });
        for found in found {
            variables.extend(found?);
        }
        Ok(())
    }

    fn name(&self, guest: usize) -> &str {
        self.machines
            .guests
            .get(guest)
            .map_or("?", |guest| guest.name.as_str())
    }

    fn load(&self, guest: usize) -> Result<()> {
        match self.guest(guest)? {
            Machine::Linux(guest) => load_mlx5(guest),
            machine @ Machine::FreeBsd(_) => {
                // A detached device waits to be attached: the one behind the root port.
                machine.exec(
                    "sysctl -n dev.mlx5_core.0.%location || devctl attach pci0:1:0:0",
                    PATIENCE,
                )?;
                machine.attach()
            }
        }
    }

    /// Gives a guest's interfaces their addresses.
    pub fn configure(&self, guest: usize, variables: &mut Variables) -> Result<()> {
        let machine = self.guest(guest)?;
        for (_, nic) in self.machines.nics_of(guest) {
            let end: End = network::configure(machine, nic)?;
            end.tell(nic, variables);
        }
        Ok(())
    }

    /// Loads or unloads drivers. What an unloaded one has left is the answer, a line for each kind of thing and NIC.
    pub fn driver(
        &self,
        guest: usize,
        change: DriverChange,
        variables: &mut Variables,
    ) -> Result<Vec<String>> {
        let mut left = Vec::new();
        if change != DriverChange::Load {
            match self.guest(guest)? {
                Machine::Linux(guest) => unload_mlx5(guest)?,
                machine @ Machine::FreeBsd(_) => {
                    let location = "sysctl -n dev.mlx5_core.0.%location";
                    let detach = format!(
                        "for word in $({location}); do case $word in dbsf=*) devctl detach ${{word#dbsf=}} ;; esac; done"
                    );
                    machine.check(&detach, PATIENCE)?;
                }
            }
            for (number, nic) in self.machines.nics_of(guest) {
                let of = leftovers(&self.server, number)?;
                left.extend(of.iter().map(|what| format!("{}: {what}", nic.name)));
            }
        }
        if change != DriverChange::Unload {
            self.load(guest)?;
        }
        if change == DriverChange::Reload {
            self.configure(guest, variables)?;
        }
        Ok(left)
    }

    /// Switches a guest. One that has started anew is set up.
    pub fn power(
        &mut self,
        guest: usize,
        change: PowerChange,
        deadline: Duration,
        variables: &mut Variables,
    ) -> Result<()> {
        match change {
            PowerChange::Kill => {
                // Dropped, it is ended.
                if let Some(slot) = self.guests.get_mut(guest) {
                    *slot = None;
                }
                return Ok(());
            }
            PowerChange::Off => {
                if let Some(slot) = self.guests.get_mut(guest) {
                    match slot.take() {
                        Some(Machine::Linux(guest)) => guest.power_off(deadline)?,
                        Some(machine @ Machine::FreeBsd(_)) => {
                            machine.exec("sync", PATIENCE)?;
                        }
                        None => {}
                    }
                }
                return Ok(());
            }
            PowerChange::Boot => {
                let booted = self.boot_one(guest)?;
                if let Some(slot) = self.guests.get_mut(guest) {
                    *slot = Some(booted);
                }
            }
            PowerChange::Reset | PowerChange::Reboot => {
                match self.guests.get_mut(guest).and_then(Option::as_mut) {
                    Some(Machine::Linux(guest)) => restart(guest, change, deadline)?,
                    Some(Machine::FreeBsd(guest)) => guest.reboot(|| Ok(()))?,
                    None => bail!("it does not run"),
                }
            }
        }
        self.set_up(guest, variables)
    }

    /// Where the guests' logs are.
    pub fn logs(&self) -> &Path {
        self.labs.first().map_or(Path::new(""), Lab::logs)
    }

    /// Begins another scenario: its faults, its capture.
    pub fn take_over(&self, faults: Faults, capture: Option<&Path>) -> Result<()> {
        self.server
            .set_faults(faults)
            .map_err(|errors| anyhow!("{errors}"))?;
        if let Some(path) = capture {
            self.server.start_capture(CaptureSpec::new(path))?;
        }
        Ok(())
    }

    /// Makes guests and NICs as they were after boot, for another scenario. What cannot be undone is an error.
    pub fn clean(&self) -> Result<()> {
        self.take_over(Faults::default(), None)?;
        for (number, nic) in self.machines.nics.iter().enumerate() {
            self.server.plug_cable(number, true).context("a NIC")?;
            self.server.set_speed(number, nic.speed).context("a NIC")?;
        }
        for (guest, machine) in self.running() {
            let Machine::Linux(machine) = machine else {
                bail!("guests with FreeBSD are not used twice");
            };
            machine.check(TIDY, PATIENCE)?;
            unload_mlx5(machine)?;
            for (number, nic) in self.machines.nics_of(guest) {
                let left = leftovers(&self.server, number)?;
                if !left.is_empty() {
                    bail!("left with {}: {}", nic.name, left.join(", "));
                }
            }
            machine.check("dmesg -C", PATIENCE)?;
        }
        Ok(())
    }

    /// Ends all guests in good order, as far as they let it be done, and the NICs.
    pub fn end(mut self) -> Result<()> {
        std::thread::scope(|scope| {
            for guest in self.guests.drain(..).flatten() {
                scope.spawn(move || {
                    if let Machine::Linux(guest) = guest {
                        // One that is stuck is killed.
                        let _ = guest.power_off(POWER_OFF);
                    }
                });
            }
        });
        self.server.stop()
    }
}

fn restart(guest: &Guest, change: PowerChange, deadline: Duration) -> Result<()> {
    let cause = |guest: &Guest| -> Result<()> {
        if change == PowerChange::Reset {
            guest
                .monitor()
                .execute("system_reset", serde_json::json!({}))?;
        } else {
            // The agent goes with the guest.
            drop(guest.spawn("sync; reboot -f")?);
        }
        Ok(())
    };
    guest.restart(cause, deadline)
}
