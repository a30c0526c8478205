use rocinante_wire::MacAddr;

use super::*;
use crate::mlx5::core::{NicConfig, PortManager};

fn nic() -> Nic {
    Nic::new(NicConfig {
        mac: MacAddr::new(2, 0, 0, 0, 0, 1),
        name: "nic0".into(),
        vectors: 8,
        manager: PortManager::Always,
    })
}

fn numbers(page: &Page) -> Vec<u32> {
    let number = |object: &Object| match object {
        Object::Number(info) => info.number,
        other => panic!("{other:?}"),
    };
    page.objects.iter().map(number).collect()
}

#[test]
fn pages_go_on_where_they_ended() {
    let mut nic = nic();
    for number in [1, 3, 4, 900] {
        nic.core.resources.pds.insert(number, ());
    }
    let page = objects(&nic, Kind::Pd, 0, 3);
    assert_eq!(
        (numbers(&page), page.total, page.next),
        (vec![1, 3, 4], 4, Some(900))
    );
    let page = objects(&nic, Kind::Pd, 900, 3);
    assert_eq!((numbers(&page), page.next), (vec![900], None));
    let page = objects(&nic, Kind::Pd, u32::MAX, usize::MAX);
    assert_eq!((numbers(&page), page.next), (vec![], None));
}

/// However far apart the numbers are: an answer takes its time, and the next one goes on.
#[test]
fn gaps_are_bounded_too() {
    let mut nic = nic();
    let last = 3 * SPAN as u32 + 5;
    nic.core.resources.pds.insert(last, ());
    let mut first = 0;
    let mut asked = 0;
    let page = loop {
        asked += 1;
        let page = objects(&nic, Kind::Pd, first, 10);
        match page.next {
            Some(next) if page.objects.is_empty() => first = next,
            _ => break page,
        }
    };
    assert_eq!((numbers(&page), asked), (vec![last], 4));
}

#[test]
fn every_kind_has_a_name_and_can_be_asked_of_a_new_nic() {
    let nic = nic();
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(*kind));
        let page = objects(&nic, *kind, 0, 10);
        assert_eq!((page.objects.len(), page.total, page.next), (0, 0, None));
    }
    let error = "qq".parse::<Kind>().unwrap_err();
    assert!(
        error.starts_with("'qq' is no kind of object (qp, cq, "),
        "{error}"
    );
    assert_eq!(Counters::of(&nic).port.received.frames, 0);
}
