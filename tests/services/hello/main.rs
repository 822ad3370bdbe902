//! A service in one file, with nothing but the standard library: `rustc -O -o hello main.rs`.
//! It listens on 0.0.0.0:$PORT and answers `GET /health` and `GET /`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, process, thread};

/// A request line and its headers may take this much; a client that sends more is not served.
const LONGEST_REQUEST: u64 = 16 * 1024;
/// A client that says nothing for this long does not keep a thread.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    if let Err(problem) = serve() {
        eprintln!("hello: {}", problem);
        process::exit(1);
    }
}

fn serve() -> Result<(), String> {
    let text = env::var("PORT")
        .map_err(|_| "PORT is not set: set it to the port to listen on, such as PORT=18000")?;
    let port: u16 =
        text.parse().map_err(|_| format!("PORT is {:?}: it must be a number from 1 to 65535", text))?;
    let listener = TcpListener::bind(("0.0.0.0", port))
        .map_err(|error| format!("cannot listen on port {}: {}", port, error))?;
    println!("hello: listening on port {}", port);
    for connection in listener.incoming() {
        match connection {
            Ok(stream) => {
                thread::spawn(move || {
                    if let Err(error) = answer(&stream) {
                        eprintln!("hello: a client went away: {}", error);
                    }
                });
            }
            Err(error) => eprintln!("hello: cannot accept a connection: {}", error),
        }
    }
    Ok(())
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;

    let mut reader = BufReader::new(stream.take(LONGEST_REQUEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    // The headers change nothing here, but a connection closed with unread bytes is reset.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 0 && !header.trim_end().is_empty() {
        header.clear();
    }

    let mut words = request.split_whitespace();
    let method = words.next().unwrap_or("");
    let path = words.next().unwrap_or("").split('?').next().unwrap_or("");
    let (status, kind, body) = match (method, path) {
        ("GET", "/health") | ("HEAD", "/health") => ("200 OK", "application/json", health()),
        ("GET", "/") | ("HEAD", "/") => ("200 OK", "text/plain", greeting()),
        ("GET", _) | ("HEAD", _) => ("404 Not Found", "text/plain", "nothing here\n".to_string()),
        ("", _) | (_, "") => ("400 Bad Request", "text/plain", "not a request\n".to_string()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET and HEAD\n".to_string()),
    };
    let mut response = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n",
        status,
        kind,
        body.len(),
        if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" },
    );
    if method != "HEAD" {
        response.push_str(&body);
    }
    stream.write_all(response.as_bytes())?;
    stream.flush()
}

fn release() -> String {
    env::var("RELEASE").unwrap_or_else(|_| "unknown".to_string())
}

fn health() -> String {
    format!("{{\"status\":\"healthy\",\"service\":\"hello\",\"release\":\"{}\"}}\n", json(&release()))
}

fn greeting() -> String {
    format!("Hello from release {}.\n", release())
}

/// The text as the inside of a JSON string.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}
