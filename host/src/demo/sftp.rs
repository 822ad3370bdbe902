//! The `sftp` subsystem of the demo's SSH server: packets in, packets out, in order.
//!
//! Owns the framing; what each request does is in `requests`, and what an error's status code is in `error`. Version 3, with the extensions that OpenSSH's server has and a deployer uses. Names are
//! UTF-8, which OpenSSH does not demand.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use russh::Channel;
use russh::server::Msg;
use russh_sftp::protocol::Packet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use error::RequestError;
use requests::{LONGEST_PACKET, Requests};

mod error;
mod requests;

/// Serves the channel until the client ends it. Paths are the machine's; relative ones start at `home`.
pub async fn run(channel: Channel<Msg>, home: PathBuf) {
    let (mut from_client, to_client) = channel.split();
    let mut writer = to_client.make_writer();
    let served = serve(from_client.make_reader(), &mut writer, Requests::new(home)).await;
    if let Err(error) = &served {
        tracing::debug!(%error, "an sftp session ended early");
    }
    let _ = to_client.exit_status(u32::from(served.is_err())).await;
    let _ = to_client.eof().await;
    let _ = to_client.close().await;
}

async fn serve(
    mut from_client: impl AsyncRead + Unpin,
    to_client: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut requests: Requests,
) -> io::Result<()> {
    while let Some(body) = read_packet(&mut from_client).await? {
        // File calls block, and fsync for long. One at a time keeps a session's requests in order, which
        // is what lets a client send the next before it has the answer to the last.
        let (reply, returned) =
            tokio::task::spawn_blocking(move || (answer(body, &mut requests), requests)).await?;
        requests = returned;
        let reply = Bytes::try_from(reply).map_err(io::Error::other)?;
        to_client.write_all(&reply).await?;
    }
    Ok(())
}

/// One packet without its length, or nothing when the client has ended.
async fn read_packet(from_client: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let length = match from_client.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST_PACKET {
        let told = format!("the client sent a packet of {length} bytes; this server takes {LONGEST_PACKET}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    let mut body = vec![0; length as usize];
    from_client.read_exact(&mut body).await?;
    Ok(Some(body.into()))
}

fn answer(mut body: Bytes, requests: &mut Requests) -> Packet {
    // Type, then the id: known even if what follows cannot be read, so that the client gets its answer.
    let id = body.get(1..5).and_then(|id| id.try_into().ok()).map_or(0, u32::from_be_bytes);
    let answered = match Packet::try_from(&mut body) {
        Ok(request) => requests.answer(request),
        Err(error) => Err(RequestError::Malformed(error.to_string())),
    };
    answered.unwrap_or_else(|error| Packet::status(id, error.code(), &error.to_string(), "en"))
}
