//! Serves over HTTP what redis holds under `greeting`, for the demonstration; it caches nothing and keeps nothing.
//!
//! `fracas-test-greeting LISTEN REDIS`, such as `fracas-test-greeting 127.0.0.1:8081 cache:6379`.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The longest that one answer of redis may take, connecting included.
const PATIENCE: Duration = Duration::from_millis(500);
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
const MAX_VALUE_BYTES: usize = 4096;
const MAX_LINE_BYTES: u64 = 8192;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(redis)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: fracas-test-greeting LISTEN REDIS"));
    };
    for client in TcpListener::bind(&listen)?.incoming().flatten() {
        let redis = redis.clone();
        // Each connection has seconds at most, which bounds their number.
        std::thread::Builder::new().spawn(move || serve(client, &redis).ok())?;
    }
    Ok(())
}

fn serve(client: TcpStream, redis: &str) -> Result<()> {
    client.set_read_timeout(Some(CLIENT_PATIENCE))?;
    client.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut lines = BufReader::new(client.try_clone()?.take(MAX_LINE_BYTES)).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match greeting(redis) {
        Ok(value) => ("200 OK", value),
        Err(error) => ("502 Bad Gateway", format!("redis: {error}")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len() + 1
    );
    (&client).write_all(format!("{head}{body}\n").as_bytes())
}

/// `GET greeting` in redis' own protocol.
fn greeting(redis: &str) -> Result<String> {
    let until = Instant::now() + PATIENCE;
    let mut redis = connect(redis, until)?;
    redis.set_read_timeout(Some(left(until)?))?;
    redis.set_write_timeout(Some(left(until)?))?;
    redis.write_all(b"*2\r\n$3\r\nGET\r\n$8\r\ngreeting\r\n")?;
    let mut answer = BufReader::new(redis);
    let mut head = String::new();
    answer.by_ref().take(64).read_line(&mut head)?;
    let length: i64 = head
        .trim_end()
        .strip_prefix('$')
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| Error::other(format!("answered {head:?}")))?;
    let length = usize::try_from(length).map_err(|_| Error::other("no greeting"))?;
    if length > MAX_VALUE_BYTES {
        return Err(Error::other("too long a greeting"));
    }
    let mut value = vec![0; length];
    answer.read_exact(&mut value)?;
    String::from_utf8(value).map_err(Error::other)
}

fn connect(redis: &str, until: Instant) -> Result<TcpStream> {
    let mut last = Error::other("no address");
    for address in redis.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(until: Instant) -> Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(Error::other(format!("no answer within {PATIENCE:?}")))
    } else {
        Ok(left)
    }
}
