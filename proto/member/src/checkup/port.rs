//! Who has the one UDP port of this machine: nobody, the daemon, or somebody else.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use proto::checkup::{Finding, Topic};

/// Longest name of a process that the kernel tells, in bytes.
const NAME_BYTES_MAX: usize = 15;

/// A process that has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    pid: u32,
    name: String,
}

/// Whether `daemon`, the unit of which is `unit`, has `bind` or can have it. Only root sees whose a port
/// is that others have.
pub fn port(bind: SocketAddr, daemon: &str, unit: &str) -> Finding {
    let bound = UdpSocket::bind(bind).map(drop);
    let taken = matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
    let holder = if taken { holder(bind) } else { None };
    judge(bind, (daemon, unit), bound, holder)
}

fn judge(
    bind: SocketAddr,
    (daemon, unit): (&str, &str),
    bound: io::Result<()>,
    holder: Option<Holder>,
) -> Finding {
    let Err(error) = bound else {
        return Finding::doubt(
            Topic::Port,
            format!("udp {bind} is free: {daemon} does not run"),
            format!("systemctl start {unit}; `journalctl -u {unit}` says why it ended"),
        );
    };
    match (error.kind(), holder) {
        (io::ErrorKind::AddrInUse, Some(Holder { pid, name })) if is_of(daemon, &name) => {
            Finding::good(Topic::Port, format!("udp {bind} is {daemon}'s (process {pid})"))
        }
        (io::ErrorKind::AddrInUse, Some(Holder { pid, name })) => Finding::wrong(
            Topic::Port,
            format!("udp {bind} is taken by {name} (process {pid})"),
            "stop that, or set `bind` (and `advertise`) to another port",
        ),
        (io::ErrorKind::AddrInUse, None) => Finding::doubt(
            Topic::Port,
            format!("udp {bind} is taken, and this user may not see by whom"),
            "run this as root",
        ),
        (io::ErrorKind::AddrNotAvailable, _) => Finding::wrong(
            Topic::Port,
            format!("udp {bind}: no interface of this machine has that address"),
            "set `bind` to one of `ip address`, or to 0.0.0.0",
        ),
        _ => Finding::wrong(
            Topic::Port,
            format!("udp {bind} cannot be bound: {error}"),
            "set `bind` to another port, or run this as the daemon's user",
        ),
    }
}

/// Whether a process that the kernel calls `name` is the daemon.
fn is_of(daemon: &str, name: &str) -> bool {
    name == &daemon[..daemon.len().min(NAME_BYTES_MAX)]
}

/// The process that keeps `bind` from being bound, if it can be seen.
fn holder(bind: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(fs::read_to_string);
    let inodes: Vec<_> = tables.iter().flatten().flat_map(|table| inodes(table, bind)).collect();
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut targets = open.filter_map(|file| fs::read_link(file.path()).ok());
            targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        })
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder { pid, name: name.trim().to_owned() }
        })
}

/// The sockets in a table of `/proc/net` that stand in the way of `bind`.
fn inodes(table: &str, bind: SocketAddr) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(|row| {
        let words: Vec<_> = row.split_whitespace().collect();
        let (ip, port) = words.get(1)?.split_once(':')?;
        let (ip, port) = (address(ip)?, u16::from_str_radix(port, 16).ok()?);
        let clashes = ip == bind.ip() || ip.is_unspecified() || bind.ip().is_unspecified();
        (port == bind.port() && clashes).then(|| words.get(9)?.parse().ok())?
    });
    rows.collect()
}

/// An address as the kernel writes it: words of 32 bits in the byte order of this machine.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<_>> = (0..hex.len() / 8)
        .map(|word| u32::from_str_radix(hex.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<_> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proto::checkup::Grade::{Doubt, Good, Wrong};

    use super::*;

    #[test]
    fn ports_table() {
        let bind = "10.0.0.7:7070".parse().unwrap();
        let holder = |name: &str| Some(Holder { pid: 812, name: name.to_owned() });
        let in_use = io::ErrorKind::AddrInUse;
        let cases = [
            (None, None, Doubt, "udp 10.0.0.7:7070 is free: swell-coordinator does not run"),
            (Some(in_use), holder("swell-coordinat"), Good, "is swell-coordinator's (process 812)"),
            (Some(in_use), holder("swell-agent"), Wrong, "taken by swell-agent (process 812)"),
            (Some(in_use), holder("swell-coordin"), Wrong, "taken by swell-coordin "),
            (Some(in_use), None, Doubt, "may not see by whom"),
            (Some(io::ErrorKind::AddrNotAvailable), None, Wrong, "no interface of this machine"),
            (Some(io::ErrorKind::PermissionDenied), None, Wrong, "cannot be bound: permission"),
        ];
        for (error, holder, grade, text) in cases {
            let bound = error.map_or(Ok(()), |kind| Err(io::Error::from(kind)));
            let found = judge(bind, ("swell-coordinator", "a.service"), bound, holder);
            assert_eq!(found.grade, grade, "{found}");
            assert!(found.what.contains(text), "{found}");
        }
        assert!(is_of("swell-agent", "swell-agent") && !is_of("swell-agent", "swell"));
    }

    #[test]
    fn who_stands_in_the_way_is_found_on_this_machine() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = socket.local_addr().unwrap();
        let own = Holder {
            pid: std::process::id(),
            name: fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned(),
        };
        assert_eq!(holder(taken), Some(own.clone()));
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, taken.port()));
        assert_eq!(holder(everywhere), Some(own.clone()), "one address of all is in the way");
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], taken.port()));
        assert_ne!(holder(elsewhere), Some(own.clone()), "another address is not");
        let found = port(taken, &own.name, "a.service");
        assert_eq!(found.grade, Good, "{found}");
        drop(socket);
        assert_eq!(port(taken, "swell-agent", "a.service").grade, Doubt);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_of_the_kernel() {
        let text = |hex| address(hex).map(|ip| ip.to_string());
        assert_eq!(text("0700000A").as_deref(), Some("10.0.0.7"));
        assert_eq!(
            text("000080FE00000000FF005450B6AD1DFE").as_deref(),
            Some("fe80::5054:ff:fe1d:adb6")
        );
        for bad in ["", "0700", "0700000X", "0700000A0700000A"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
