//! What happens to NICs in their lives, with real guests: interfaces, drivers, cables and whole guests that go and come back,
//! mostly in the middle of traffic. Nothing hangs, nothing is left with the device, traffic resumes, data is right.

use std::time::{Duration, Instant};

use rocinante_harness::lab::demo::Fabric;
use rocinante_harness::lab::{self, Emulated, Guest, GuestConfig, Job, complaints};
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, finish, lab};

/// Prints how long each part takes.
fn part(name: &str, act: impl FnOnce()) {
    let started = Instant::now();
    act();
    println!("{:5.1} s {name}", started.elapsed().as_secs_f64());
}

/// One TCP connection from the first guest to the second that sends until it is told to stop, with a checksum at either end.
struct Stream {
    sender: Job,
    receiver: Job,
}

impl Stream {
    fn start(pair: &mut Pair<'_>) -> Self {
        let port = pair.port();
        let receiver = pair.spawn(
            1,
            &format!("socat -u TCP-LISTEN:{port},reuseaddr - | sha256sum"),
        );
        pair.listening(1, port);
        let sender = pair.spawn(
            0,
            &format!(
                "cd /run; rm -f stop fifo; mkfifo fifo; head -c 300000 /dev/urandom >chunk; sha256sum <fifo & \
                 while [ ! -e stop ]; do cat chunk; done | tee fifo | socat -u - TCP:{}:{port}; wait",
                ADDRESSES[1]
            ),
        );
        let stream = Stream { sender, receiver };
        stream.goes_on(pair);
        stream
    }

    /// Waits until another megabyte has arrived.
    ///
    /// Linux' mlx5e reopens its queues with `netif_tx_start_all_queues`: what has waited in a queueing discipline waits on until
    /// the next packet of that queue, and TCP does not send a segment again that has not left yet. So each queue gets a packet.
    #[track_caller]
    fn goes_on(&self, pair: &Pair<'_>) {
        for (n, peer) in [(0, ADDRESSES[1]), (1, ADDRESSES[0])] {
            pair.sh(
                n,
                &format!("for cpu in 0 1; do taskset -c $cpu ping -c 1 -W 1 {peer}; done; true"),
            );
        }
        goes_on(pair, 1, "rx_bytes", 1 << 20);
    }

    fn stop(self, pair: &Pair<'_>) {
        pair.sh(0, "touch /run/stop");
        let sent = finish(self.sender, "sender");
        let received = finish(self.receiver, "receiver");
        assert_eq!(sent, received);
        assert!(
            sent.split_whitespace()
                .next()
                .is_some_and(|sum| sum.len() == 64)
        );
    }
}

/// Waits until an interface counter of guest `n` has grown by `more`.
#[track_caller]
fn goes_on(pair: &Pair<'_>, n: usize, counter: &str, more: u64) {
    let file = format!(
        "/sys/class/net/{}/statistics/{counter}",
        pair.ends[n].interface
    );
    let command = format!(
        "end=$(($(cat {file}) + {more})); until [ $(cat {file}) -ge $end ]; do sleep 0.05; done"
    );
    if let Err(error) = pair.guests[n].check(&command, PATIENCE) {
        let state = pair.both(
            "ss -tino; ip -statistics link show dev eth0; ip neighbour; ethtool -S eth0 | grep -v ': 0$'; dmesg | tail -n 20",
        );
        panic!("{error:#}\n{}\n{}", state[0], state[1]);
    }
}

/// Waits until packets of RDMA have passed at guest `n`, which the interface does not count.
#[track_caller]
fn rdma_goes_on(pair: &Pair<'_>, n: usize) {
    let file = format!(
        "/sys/class/infiniband/{}/ports/1/counters/port_rcv_packets",
        pair.ends[n].device
    );
    pair.sh(
        n,
        &format!(
            "end=$(($(cat {file}) + 200)); until [ $(cat {file}) -ge $end ]; do sleep 0.02; done"
        ),
    );
}

/// The driver of guest `n` is gone and has left nothing.
#[track_caller]
fn nothing_left(pair: &Pair<'_>, n: usize) {
    let left = pair.fabric.leftovers(n).expect("a goodbye");
    assert_eq!(left, [""; 0], "left with NIC {n}");
}

/// NIC `n` is as at power-on.
#[track_caller]
fn is_empty(pair: &Pair<'_>, n: usize) {
    let inventory = pair.fabric.server().inventory(n).expect("the NIC runs");
    assert_eq!((&inventory.objects[..], inventory.pages), (&[][..], 0));
}

/// Starts a verified exchange by RDMA, second guest to first: server and client.
fn rping(pair: &Pair<'_>, count: u32) -> [Job; 2] {
    let options = format!("-a {} -C {count} -V -S 3000", ADDRESSES[1]);
    let server = pair.spawn(1, &format!("rping -s {options}"));
    let listening = format!(
        "rdma resource show cm_id | grep -q LISTEN || test ! -d {}",
        server.folder()
    );
    if let Err(error) = pair.guests[1].wait_until(&listening, PATIENCE) {
        panic!("rping does not listen: {error:#}");
    }
    [server, pair.spawn(0, &format!("rping -c {options}"))]
}

/// The carrier as guest `n` sees it, waited for.
#[track_caller]
fn carrier(pair: &Pair<'_>, n: usize, up: bool) {
    let end = &pair.ends[n];
    let (state, value) = if up { ("ACTIVE", 1) } else { ("DOWN", 0) };
    let condition = format!(
        "grep -q {value} /sys/class/net/{}/carrier && grep -q {state} /sys/class/infiniband/{}/ports/1/state",
        end.interface, end.device
    );
    if let Err(error) = pair.guests[n].wait_until(&condition, PATIENCE) {
        panic!("carrier: {error:#}");
    }
}

/// The PCI address of the guest's NIC.
const NIC: &str = "$(basename $(dirname $(grep -l 0x15b3 /sys/bus/pci/devices/*/vendor)))";

/// An RC QP of rdma_cm retries for about four seconds; outages that are well below are survived.
const OUTAGE: Duration = Duration::from_secs(3);

#[test]
fn traffic_survives_what_happens_to_interfaces_drivers_and_cables() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "lifecycle");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut pair = Pair::boot_with(&lab, &fabric, 2);
    let stream = Stream::start(&mut pair);

    part("interface down and up", || {
        for n in [0, 1, 0, 1] {
            pair.sh(n, "ip link set eth0 down; ip link set eth0 up");
            carrier(&pair, n, true);
            stream.goes_on(&pair);
        }
    });
    part("MTU", || {
        for mtu in [1500, 4000, 576, 9000] {
            pair.both(&format!("ip link set eth0 mtu {mtu}"));
            carrier(&pair, 0, true);
            stream.goes_on(&pair);
        }
    });
    part("channels and rings", || {
        for options in [
            "-L eth0 combined 1",
            "-L eth0 combined 2",
            "-G eth0 rx 256 tx 256",
        ] {
            pair.both(&format!("ethtool {options}"));
            carrier(&pair, 0, true);
            stream.goes_on(&pair);
        }
    });
    part("cable, of Ethernet", || {
        for n in [0, 1] {
            fabric.plug_cable(n, false).expect("pulled");
            carrier(&pair, n, false);
            fabric.plug_cable(n, true).expect("plugged");
            carrier(&pair, n, true);
            stream.goes_on(&pair);
        }
    });
    stream.stop(&pair);
    part("cable, of RDMA", || cable_under_rdma(&pair));

    // The same connection again and again: the address is back, and so is its peer.
    let stream = Stream::start(&mut pair);
    part("driver reloaded under traffic", || {
        for n in [1, 0] {
            let jobs = (n == 1).then(|| rping(&pair, 1_000_000));
            if jobs.is_some() {
                rdma_goes_on(&pair, 1);
            }
            fabric.unload(&pair.guests[n]).expect("the driver goes");
            nothing_left(&pair, n);
            // Whoever used the device is told and ends; how, is a matter of taste.
            for job in jobs.into_iter().flatten() {
                job.wait(PATIENCE).expect("rping ends");
            }
            pair.ends[n] = pair.configure(n);
            stream.goes_on(&pair);
        }
    });
    part("devlink reload under traffic", || {
        pair.sh(1, &format!("devlink dev reload pci/{NIC}"));
        pair.ends[1] = pair.configure(1);
        stream.goes_on(&pair);
    });
    part("PCI remove and rescan under traffic", || {
        pair.sh(1, &format!("echo 1 >/sys/bus/pci/devices/{NIC}/remove"));
        nothing_left(&pair, 1);
        pair.sh(1, "echo 1 >/sys/bus/pci/rescan");
        pair.ends[1] = pair.configure(1);
        stream.goes_on(&pair);
    });
    part("function level reset between two drivers", || {
        pair.sh(
            1,
            &format!("nic={NIC}; echo $nic >/sys/bus/pci/devices/$nic/driver/unbind"),
        );
        nothing_left(&pair, 1);
        pair.sh(
            1,
            &format!(
                "nic={NIC}; cd /sys/bus/pci; echo flr >devices/$nic/reset_method; echo 1 >devices/$nic/reset; \
                 echo $nic >drivers/mlx5_core/bind"
            ),
        );
        pair.ends[1] = pair.configure(1);
        stream.goes_on(&pair);
    });
    stream.stop(&pair);
    pair.pingpong("rc_pingpong -c -n 100");

    pair.assert_no_complaints();
    for n in [0, 1] {
        fabric.unload(&pair.guests[n]).expect("the driver goes");
        nothing_left(&pair, n);
    }
}

/// The cable is pulled in the middle of a reliable connection and plugged in again while it still retries.
fn cable_under_rdma(pair: &Pair<'_>) {
    for attempt in 1.. {
        let jobs = rping(pair, 3000);
        rdma_goes_on(pair, 1);
        pair.fabric.plug_cable(0, false).expect("pulled");
        let pulled = Instant::now();
        carrier(pair, 0, false);
        pair.fabric.plug_cable(0, true).expect("plugged");
        let outage = pulled.elapsed();
        carrier(pair, 0, true);
        if outage < OUTAGE {
            rdma_goes_on(pair, 1);
            for job in jobs {
                finish(job, "rping");
            }
            return;
        }
        // Too long for the connection, which ends, well or not.
        assert!(
            attempt < 5,
            "the guest takes {outage:?} to see that its carrier is gone"
        );
        for job in jobs {
            job.kill().expect("kill");
            job.wait(PATIENCE).expect("rping ends");
        }
    }
}

/// Each way in which a guest starts anew or ends, with a loaded driver and traffic.
#[test]
fn guests_restart_crash_and_end() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "restarts");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut shape = GuestConfig::new("");
    shape.restarts = true;
    let mut pair = Pair::boot_as(&lab, &fabric, shape);

    let flood = format!("ping -f -s 4000 {}", ADDRESSES[0]);
    let flood = pair.spawn(1, &flood);
    let shell = |command: &'static str| {
        move |guest: &Guest| {
            // It does not live to answer.
            drop(guest.spawn(command)?);
            Ok(())
        }
    };
    let reset = |guest: &Guest| {
        guest
            .monitor()
            .execute("system_reset", serde_json::json!({}))?;
        Ok(())
    };
    type Cause<'a> = &'a dyn Fn(&Guest) -> anyhow::Result<()>;
    let causes: [(&str, Cause<'_>); 4] = [
        ("reboot", &shell("reboot -f")),
        ("kernel panic", &shell("echo c >/proc/sysrq-trigger")),
        ("reset button", &reset),
        (
            "reboot without the drivers' knowledge",
            &shell("echo b >/proc/sysrq-trigger"),
        ),
    ];
    for (name, cause) in causes {
        part(name, || {
            goes_on(&pair, 0, "rx_packets", 100);
            pair.assert_no_complaints();
            let jobs = rping(&pair, 1_000_000);
            rdma_goes_on(&pair, 1);
            let alice = &pair.guests[0];
            alice
                .restart(cause, 2 * PATIENCE)
                .unwrap_or_else(|error| panic!("{name}: {error:#}"));
            is_empty(&pair, 0);
            let [server, client] = jobs;
            assert!(client.wait(PATIENCE).is_err(), "the client has survived");
            // Its peer is gone, as its retries tell, or nobody.
            server.kill().expect("kill");
            server.wait(PATIENCE).expect("the server ends");
            pair.ends[0] = pair.configure(0);
            pair.pingpong("rc_pingpong -c -n 50");
        });
    }
    flood.kill().expect("kill");
    flood.wait(PATIENCE).expect("the flood ends");
}

/// A guest that is switched off at its power button; NICs that are plugged into a running one.
#[test]
fn guests_end_and_nics_are_plugged() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "plug");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut pair = Pair::boot(&lab, &fabric);
    let flood = format!("ping -f -s 4000 {}", ADDRESSES[0]);
    let flood = pair.spawn(1, &flood);
    goes_on(&pair, 0, "rx_packets", 100);
    part("power button", || {
        // What an ACPI daemon does.
        let listener = pair.spawn(
            0,
            "modprobe -a button evdev; until name=$(grep -l 'Power Button' /sys/class/input/event*/device/name); do sleep 0.1; done; \
             event=${name%%/device*}; head -c 24 /dev/input/${event##*/} >/dev/null; poweroff -f",
        );
        let alice = &pair.guests[0];
        alice.wait_until("pidof head", PATIENCE).expect("listens");
        pair.assert_no_complaints();
        let pressed = alice
            .monitor()
            .execute("system_powerdown", serde_json::json!({}));
        pressed.expect("a power button");
        alice.wait_for_end(PATIENCE).expect("the guest is off");
        drop(listener);
        is_empty(&pair, 0);
    });
    flood.kill().expect("kill");
    flood.wait(PATIENCE).expect("the flood ends");
    pair.guests.remove(0);

    for (name, native) in [("native", true), ("ACPI", false)] {
        part(&format!("hot-plug, {name}"), || {
            let mut config = GuestConfig::new("carol");
            config.free_ports = 1;
            if native {
                let global = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
                config.qemu_arguments = ["-global", global].map(str::to_owned).into();
            }
            let carol = lab
                .boot(&config)
                .unwrap_or_else(|error| panic!("{error:#}"));
            carol
                .check("modprobe -a mlx5_core mlx5_ib ib_uverbs rdma_ucm", PATIENCE)
                .expect("driver");
            carol.plug(0, &fabric.sockets()[0]).expect("plugged");
            pair.guests.insert(0, carol);
            pair.ends[0] = pair.configure(0);
            pair.pingpong("rc_pingpong -c -n 100");
            pair.sh(0, &format!("ping -c 5 -i 0.2 -W 20 {}", ADDRESSES[1]));
            // As if it were pulled, as far as the guest's driver sees it.
            pair.sh(0, &format!("echo 1 >/sys/bus/pci/devices/{NIC}/remove"));
            nothing_left(&pair, 0);
            pair.sh(0, "echo 1 >/sys/bus/pci/rescan");
            pair.ends[0] = lab::configure(&pair.guests[0], ADDRESSES[0]).expect("back");
            pair.pingpong("rc_pingpong -c -n 50");
            let dmesg = pair.guests[0].dmesg().expect("dmesg");
            let lines = complaints(&dmesg);
            assert!(lines.is_empty(), "{lines:#?}");
            let carol = pair.guests.remove(0);
            carol.power_off(PATIENCE).expect("the guest is off");
            is_empty(&pair, 0);
        });
    }
}
