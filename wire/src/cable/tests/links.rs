//! Links: carrier, black holes, speed, bit errors.

use super::*;

#[test]
fn links_flap_at_their_times_and_lose_what_is_on_its_way() {
    let mut world = world(
        "[[link]]\nname = \"f\"\nfault = \"flap\"\nfrom = \"10us\"\ndown = \"5us\"\nup = \"5us\"\ncount = 2\n\
         [[rule]]\nname = \"r\"\nnth = 9\naction = { delay = \"3us\" }\n",
    );
    let mut events = Vec::new();
    let mut delivered = Vec::new();
    for n in 1..=30 {
        let now = us(n);
        while let Some(event) = world.cable.poll_event(now) {
            events.push((n, event));
        }
        let out = world.cable.transmit(now, send(n as u32), &());
        delivered.extend(out.iter().map(psn));
    }
    let carrier = CableEvent::Carrier;
    assert_eq!(
        events,
        [
            (10, carrier(false)),
            (15, carrier(true)),
            (20, carrier(false)),
            (25, carrier(true))
        ]
    );
    let expected: Vec<u32> = (1..9).chain(15..20).chain(25..31).collect();
    assert_eq!(delivered, expected);
    // Ten sent in vain, and the late one.
    assert_eq!(world.counters().link_drops, 11);
    assert!(world.control.status()[0].carrier);
}

#[test]
fn a_cable_that_was_asleep_tells_every_change() {
    let mut world = world(
        "[[link]]\nname = \"f\"\nfault = \"flap\"\ndown = \"5us\"\nup = \"5us\"\ncount = 3\n",
    );
    let events = std::iter::from_fn(|| world.cable.poll_event(us(100))).count();
    assert_eq!(events, 6);
    assert!(world.cable.carrier());
}

#[test]
fn plugs_black_holes_and_speeds() {
    let mut world = world("");
    assert!(world.control.set_plugged("alice", false));
    assert!(!world.control.set_plugged("carol", false));
    assert_eq!(
        world.cable.poll_event(us(1)),
        Some(CableEvent::Carrier(false))
    );
    assert!(world.cable.transmit(us(1), send(1), &()).is_none());
    assert!(world.cable.receive(us(1), send(1), &()).is_none());
    world.control.set_plugged("alice", true);
    assert_eq!(
        world.cable.poll_event(us(2)),
        Some(CableEvent::Carrier(true))
    );
    assert!(world.cable.transmit(us(2), send(1), &()).is_some());
    // An adapter that leaves its slot takes the carrier along, whatever the plug says.
    world.cable.set_present(us(2), false);
    assert_eq!(
        world.cable.poll_event(us(2)),
        Some(CableEvent::Carrier(false))
    );
    let status = &world.control.status()[0];
    assert!(status.plugged && !status.carrier);
    assert!(world.cable.receive(us(2), send(1), &()).is_none());
    world.cable.set_present(us(2), true);
    assert_eq!(
        world.cable.poll_event(us(2)),
        Some(CableEvent::Carrier(true))
    );
    world.set(
        "[[link]]\nname = \"b\"\nfault = \"blackhole\"\ndirection = \"rx\"\n\
         [[link]]\nname = \"s\"\nfault = \"speed\"\nspeed = 25000\n",
    );
    assert_eq!(
        world.cable.poll_event(us(3)),
        Some(CableEvent::Speed(Some(25000)))
    );
    assert_eq!(world.cable.poll_event(us(3)), None);
    assert!(world.cable.transmit(us(3), send(1), &()).is_some());
    assert!(world.cable.receive(us(3), send(1), &()).is_none());
    assert_eq!(world.control.status()[0].rx.blackhole_drops, 1);
}

#[test]
fn bit_errors_come_as_often_as_asked_and_repeat_with_the_seed() {
    let text = |seen: &str| {
        format!(
            "[[link]]\nname = \"e\"\nfault = \"bit-errors\"\nrate = 1e-4\nseen-by = \"{seen}\"\n\
             from = \"0s\"\nuntil = \"1s\"\n"
        )
    };
    // 14 + 20 + 8 + 12 + 100 + 4 bytes and the FCS: p = 12 %.
    let mut lost = world(&text("fcs"));
    let run = lost.run(0..1000);
    assert!((800..950).contains(&run.len()), "{}", run.len());
    assert_eq!(lost.counters().fcs_errors as usize, 1000 - run.len());
    assert_eq!(run, world(&text("fcs")).run(0..1000));
    // Who is to get them counts them.
    let mut here = world(&text("fcs"));
    let came = (0..100).filter(|n| here.cable.receive(us(1), send(*n), &()).is_some());
    let lost = 100 - came.count() as u64;
    assert!(lost > 0);
    assert_eq!(
        here.cable.poll_event(us(1)),
        Some(CableEvent::FcsErrors(lost))
    );
    assert_eq!(here.cable.poll_event(us(1)), None);
    let mut wrong = world(&text("icrc"));
    let mut bad = 0;
    for n in 0..1000 {
        let out = wrong.tx(us(1), send(n)).remove(0);
        if out.is_known_good() {
            continue;
        }
        bad += 1;
        let (mut sent, mut came) = (Vec::new(), Vec::new());
        send(n).to_bytes(&mut sent).unwrap();
        out.to_bytes(&mut came).unwrap();
        let differing: u32 = sent
            .iter()
            .zip(&came)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!(differing, 1);
    }
    assert_eq!(bad, 1000 - run.len(), "the same frames");
}
