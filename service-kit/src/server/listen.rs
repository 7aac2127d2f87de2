//! Takes a port.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Listens on `address`; beside others who do so too, when `reuse_port` says so.
pub(super) fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of the process before may still be closing.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    socket.set_reuseport(reuse_port)?;
    #[cfg(not(unix))]
    let _ = reuse_port;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_shared_only_by_those_who_all_say_so() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = listen(any, true).unwrap();
        let address = first.local_addr().unwrap();

        assert!(listen(address, false).is_err());
        assert!(listen(address, true).is_ok());
        let alone = listen(any, false).unwrap().local_addr().unwrap();
        assert!(listen(alone, true).is_ok(), "it is free again at once");
    }
}
