//! Finds the processes that listen at an address, as `/proc` shows them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::server::Pid;

/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// All processes that listen there, nginx workers included. None if they are on another machine,
/// or belong to somebody who does not let us look.
pub(super) fn of(addr: SocketAddr) -> Vec<Pid> {
    let mut sockets = BTreeSet::new();
    for (table, matches_ip) in [
        ("/proc/net/tcp", matches_v4 as fn(&str, IpAddr) -> bool),
        ("/proc/net/tcp6", matches_v6),
    ] {
        if let Ok(text) = fs::read_to_string(table) {
            sockets.extend(listening_sockets(&text, addr, matches_ip));
        }
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(Result::ok)
        .filter(|entry| holds_any(&entry.path(), &sockets))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid))
        .collect()
}

/// The inodes of sockets that listen at `addr`.
fn listening_sockets(
    table: &str,
    addr: SocketAddr,
    matches_ip: fn(&str, IpAddr) -> bool,
) -> Vec<String> {
    const STATE: usize = 3;
    const INODE: usize = 9;
    let port = format!("{:04X}", addr.port());
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (ip, found) = fields.get(1)?.split_once(':')?;
            let is_it =
                found == port && fields.get(STATE) == Some(&LISTENING) && matches_ip(ip, addr.ip());
            is_it.then(|| fields.get(INODE).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect()
}

/// Addresses are in the byte order of the machine.
fn matches_v4(text: &str, ip: IpAddr) -> bool {
    let Ok(number) = u32::from_str_radix(text, 16) else {
        return false;
    };
    let found = Ipv4Addr::from(number.to_ne_bytes());
    found.is_unspecified() || ip == IpAddr::V4(found)
}

/// Told by the port alone: a server that speaks both families hears both there.
const fn matches_v6(_text: &str, _ip: IpAddr) -> bool {
    true
}

fn holds_any(process: &Path, sockets: &BTreeSet<String>) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .filter_map(Result::ok)
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn finds_who_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(of(addr), [Pid(std::process::id())]);
        drop(listener);
        assert_eq!(of(addr), []);
    }

    #[test]
    fn reads_the_table_of_sockets() {
        let ip = u32::from_ne_bytes([127, 0, 0, 1]);
        let table = format!(
            "  sl  local_address rem_address   st tx_queue\n   \
             0: {ip:08X}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 777 1\n   \
             1: {ip:08X}:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000  0 0 888 1\n"
        );
        let sockets = |addr: &str| listening_sockets(&table, addr.parse().unwrap(), matches_v4);
        assert_eq!(sockets("127.0.0.1:8080"), ["socket:[777]"]);
        assert!(sockets("127.0.0.2:8080").is_empty());
        assert!(sockets("127.0.0.1:8081").is_empty());
        assert!(
            listening_sockets("garbage\n\n", "1.2.3.4:5".parse().unwrap(), matches_v6).is_empty()
        );
    }
}
