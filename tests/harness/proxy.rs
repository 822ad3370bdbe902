//! The network between the program and the server, which a test can break: a TCP proxy in front of sshd.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Target;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fair,
    Silent,
    Cut,
}

/// A proxy that ends with the test.
pub struct Proxy {
    /// The server, through this proxy.
    pub target: Target,
    weather: Arc<watch::Sender<Weather>>,
    _accepting: JoinSet<()>,
    /// The host keys of the server, at the proxy's address.
    _known_hosts: tempfile::NamedTempFile,
}

impl Proxy {
    pub async fn start(target: &Target) -> Self {
        Self::at(target, 0).await
    }

    /// On a port of its own; 0 is any that is free.
    pub async fn at(target: &Target, port: u16) -> Self {
        let (login, host) = target.address.split_once('@').unwrap();
        let behind: SocketAddr = host.parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();

        let known = std::fs::read_to_string(&target.known_hosts).unwrap();
        let known = known.replace(&format!("[127.0.0.1]:{}", behind.port()), &format!("[127.0.0.1]:{port}"));
        let known_hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(known_hosts.path(), known).unwrap();

        let weather = Arc::new(watch::Sender::new(Weather::Fair));
        let mut accepting = JoinSet::new();
        let sky = weather.clone();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, behind, sky.subscribe()));
            }
        });
        let through = Target {
            address: format!("{login}@127.0.0.1:{port}"),
            known_hosts: path(known_hosts.path()),
            ..target.clone()
        };
        Proxy { target: through, weather, _accepting: accepting, _known_hosts: known_hosts }
    }

    /// Breaks what is open and what is opened, until `resume`.
    pub fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
    }

    /// Carries nothing, and lets nobody know, until `resume`.
    pub fn silence(&self) {
        self.weather.send_replace(Weather::Silent);
    }

    pub fn resume(&self) {
        self.weather.send_replace(Weather::Fair);
    }
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// One connection, to its end or until the weather breaks it.
async fn carry(mut client: TcpStream, behind: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut breaks = weather.clone();
    let both = async {
        fair(weather.clone()).await;
        let mut server = TcpStream::connect(behind).await.unwrap();
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = copy(from_client, to_server, weather.clone()) => {}
            () = copy(from_server, to_client, weather.clone()) => {}
        }
    };
    tokio::select! {
        () = both => {}
        _ = breaks.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    weather: watch::Receiver<Weather>,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        fair(weather.clone()).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

async fn fair(mut weather: watch::Receiver<Weather>) {
    // The proxy has the sender for as long as this runs.
    let _ = weather.wait_for(|weather| *weather == Weather::Fair).await;
}
