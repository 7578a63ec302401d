use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Clients of one listener, each with the connection that was accepted.
async fn connect(listen: &str, address: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(listen).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((address, port)).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    (listener, client, accepted)
}

#[tokio::test]
async fn the_owner_of_a_connection_is_found_in_either_way_over_ipv4_and_ipv6() {
    let me = Owner::User(geteuid().as_raw());
    for (listen, address) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::ffff:127.0.0.1"),
        ("127.0.0.1:0", "::ffff:127.0.0.1"),
    ] {
        let (_listener, mut client, accepted) = connect(listen, address).await;
        let connection = Accepted::of(&accepted).unwrap();
        assert_eq!(connection.by_netlink(), Some(me), "{listen} {address}");
        assert_eq!(table::owner(connection).await, me, "{listen} {address}");
        // A client may be done with speaking, and wait for the answer.
        client.shutdown().await.unwrap();
        assert_eq!(connection.owner().await, me, "{listen} {address}");
    }
}

#[tokio::test]
async fn a_client_that_has_closed_its_socket_is_nobody() {
    for reset in [false, true] {
        let (_listener, client, accepted) = connect("127.0.0.1:0", "127.0.0.1").await;
        let connection = Accepted::of(&accepted).unwrap();
        if reset {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        // Older kernels list the closed socket as one of root's: that must not count.
        for _ in 0..20 {
            assert!(matches!(connection.owner().await, Owner::Unknown(_)), "reset: {reset}");
            assert!(matches!(table::owner(connection).await, Owner::Unknown(_)), "reset: {reset}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_socket_that_listens_on_the_port_of_the_client_is_not_taken_for_the_client() {
    let (_listener, client, accepted) = connect("127.0.0.1:0", "127.0.0.1").await;
    let connection = Accepted::of(&accepted).unwrap();
    client.set_zero_linger().unwrap();
    let port = client.local_addr().unwrap();
    drop(client);
    let _other = TcpListener::bind(port).await.unwrap();
    assert!(matches!(connection.owner().await, Owner::Unknown(_)));
}

#[tokio::test]
async fn a_connection_that_took_the_same_addresses_is_not_the_one_that_was_accepted() {
    let (_listener, _client, accepted) = connect("127.0.0.1:0", "127.0.0.1").await;
    let connection = Accepted::of(&accepted).unwrap();
    let other = Accepted { inode: connection.inode + 1, ..connection };
    assert_eq!(other.by_netlink(), None);
    assert!(matches!(other.owner().await, Owner::Unknown(_)));
}

#[tokio::test]
async fn who_listens_is_named_with_the_process() {
    for listen in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        let bound = TcpListener::bind(listen).await.unwrap();
        let port = bound.local_addr().unwrap().port();
        let address = if listen.starts_with('[') { "::1" } else { "127.0.0.1" };
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let found = listener(address).unwrap();
        assert_eq!(found.uid, geteuid().as_raw());
        assert_eq!(found.process.as_ref().unwrap().pid, std::process::id());
        assert!(found.to_string().contains(&format!("process {} (user ", std::process::id())), "{found}");
        let by_table = table::listener(address).unwrap();
        assert_eq!((by_table.uid, by_table.state), (found.uid, State::Listening));
        drop(bound);
        assert_eq!(listener(address), None);
    }
}
