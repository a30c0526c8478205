//! Whole frames as other implementations put them on the wire, for this crate's tests.

use crate::icrc::Encap;

/// One frame.
pub(crate) struct Vector {
    pub name: &'static str,
    pub encap: Encap,
    pub l3_offset: usize,
    /// Hexadecimal, ICRC included.
    pub frame: &'static str,
}

/// Captured from ConnectX-4 Lx hardware.
pub(crate) const HW_CNP: Vector = Vector {
    name: "CNP, v2 over IPv4, hardware capture",
    encap: Encap::V2Ipv4,
    l3_offset: 14,
    frame: concat!(
        "e41d2dab2bc27cfe90643b320800",
        "45c2003c718c4000401191610a0011010a001201",
        "000012b700280000",
        "8100ffff4000011800000000",
        "00000000000000000000000000000000",
        "82fd002a"
    ),
};

/// RC SEND_ONLY, QP 0x12, PSN 1, AckReq, "hello roce!!", over IPv4.
pub(crate) const V4_SEND: Vector = Vector {
    name: "RC SEND_ONLY, v2 over IPv4",
    encap: Encap::V2Ipv4,
    l3_offset: 14,
    frame: concat!(
        "0200000000020200000000010800",
        "45680038000040004011264b0a0000010a000002",
        "c00012b700240000",
        "0440ffff0000001280000001",
        "68656c6c6f20726f63652121",
        "552ec8fa"
    ),
};

/// RC WRITE_ONLY of 8 bytes over IPv6.
pub(crate) const V6_WRITE: Vector = Vector {
    name: "RC WRITE_ONLY, v2 over IPv6",
    encap: Encap::V2Ipv6,
    l3_offset: 14,
    frame: concat!(
        "02000000000202000000000186dd",
        "6681234500301140fe80000000000000000000fffe000001fe80000000000000000000fffe000002",
        "c12312b700300000",
        "0a40ffff0000001180000abc",
        "0000123456789abc00001f2e00000008",
        "0001020304050607",
        "d138db72"
    ),
};

/// RC SEND_ONLY with a GRH.
pub(crate) const V1_SEND: Vector = Vector {
    name: "RC SEND_ONLY, v1",
    encap: Encap::V1,
    l3_offset: 14,
    frame: concat!(
        "0200000000020200000000018915",
        "62000001001c1b40fe80000000000000000000fffe000001fe80000000000000000000fffe000002",
        "0440ffff0000001280000001",
        "68656c6c6f20726f63652121",
        "3c733985"
    ),
};

/// [`V4_SEND`] in VLAN 100 with priority 3: the tag is not part of the ICRC.
pub(crate) const V4_VLAN_SEND: Vector = Vector {
    name: "RC SEND_ONLY, v2 over IPv4, tagged",
    encap: Encap::V2Ipv4,
    l3_offset: 18,
    frame: concat!(
        "020000000002020000000001810060640800",
        "45680038000040004011264b0a0000010a000002",
        "c00012b700240000",
        "0440ffff0000001280000001",
        "68656c6c6f20726f63652121",
        "552ec8fa"
    ),
};

/// All of them.
pub(crate) const ALL: [&Vector; 5] = [&HW_CNP, &V4_SEND, &V6_WRITE, &V1_SEND, &V4_VLAN_SEND];

/// The bytes of a string of hexadecimal digits.
pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    assert_eq!(hex.len() % 2, 0);
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
