//! Faults of packets and links as Linux' mlx5 drivers see them: what each costs in retransmissions, completions, link events,
//! and what is left of the data.

mod bench;
mod captures;
mod links;
mod packets;

use std::time::Instant;

use rocinante_harness::lab::Emulated;
use rocinante_tests::guests::{Pair, alone, lab};

use rocinante_wire::capture::Capture;

use bench::Bench;

/// Prints how long each part takes.
fn part(name: &str, bench: &Bench<'_>, act: impl FnOnce(&Bench<'_>)) {
    let started = Instant::now();
    act(bench);
    println!("{:5.1} s {name}", started.elapsed().as_secs_f64());
}

#[test]
fn faults_as_linux_sees_them() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "wire_faults");
    let fabric = Emulated::start(2, None).expect("NICs");
    let bench = Bench::new(Pair::boot(&lab, &fabric));
    let path = lab.logs().join("wire_faults.pcapng");
    let capture = Capture::create(&path).expect("a capture");
    bench.control().start_capture(capture, true);
    part("no rules", &bench, packets::none);
    part("lost", &bench, packets::lost);
    part("late", &bench, packets::late);
    part("changed", &bench, packets::changed);
    part("forged", &bench, packets::forged);
    part("congested", &bench, packets::congested);
    part("given up", &bench, packets::given_up);
    part("chosen", &bench, packets::chosen);
    let capture = bench.control().stop_capture().expect("the capture");
    let stats = capture.finish().expect("complete");
    assert_eq!((stats.dropped, stats.unreadable), (0, 0), "{stats:?}");
    part("capture", &bench, |bench| {
        captures::explained(&path, &bench.touched.borrow());
    });
    part("ring of captures", &bench, |bench| {
        captures::ring(bench, &lab.logs().join("ring"));
    });
    part("full disk", &bench, |bench| {
        captures::full_disk(bench, &lab.logs().join("small"));
    });
    part("link down", &bench, links::down);
    part("link flaps", &bench, links::flap);
    part("black hole", &bench, links::black_hole);
    part("speed", &bench, links::speed);
    part("pauses", &bench, links::pauses);
    part("bit errors", &bench, links::bit_errors);
    bench.verbs.stop();
    bench.pair.assert_no_complaints();
}
