//! One `direct-tcpip` channel: bytes to and from a port on this machine's loopback.
//!
//! Owns the copying and when each side has ended; whether a destination is allowed is `sshd`'s.

use russh::server::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncWriteExt, BufReader, copy_buf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Copies both ways until both sides have ended, or the client has closed the channel.
pub async fn run(channel: Channel<Msg>, stream: TcpStream) {
    let (mut from_client, to_client) = channel.split();
    let (from_service, mut to_service) = stream.into_split();

    // A task of its own: while one direction waits for a slow reader, the other has to go on.
    let mut downward = JoinSet::new();
    let mut writer = to_client.make_writer();
    downward.spawn(async move {
        let mut from_service = BufReader::with_capacity(32 * 1024, from_service);
        if let Err(error) = copy_buf(&mut from_service, &mut writer).await {
            tracing::debug!(%error, "a forwarded connection ended early");
        }
    });

    let mut client_ended = false;
    loop {
        tokio::select! {
            message = from_client.wait() => match message {
                Some(ChannelMsg::Data { data }) => {
                    if to_service.write_all(&data).await.is_err() {
                        break;
                    }
                }
                Some(ChannelMsg::Eof) => {
                    client_ended = true;
                    let _ = to_service.shutdown().await;
                    if downward.is_empty() {
                        break;
                    }
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            },
            Some(_) = downward.join_next() => {
                let _ = to_client.eof().await;
                if client_ended {
                    break;
                }
            }
        }
    }
    let _ = to_client.close().await;
}
