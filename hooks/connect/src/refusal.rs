//! A connection that cannot be made: its first call is answered with an error, which the client shows.
//!
//! A client on a socket sees nothing else of this program: standard error is the journal's.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::failure::{self, OPERATION_FAILED};
use crate::packet::{HEAD, Header};

/// The time limit for the client's first call, and for its end of the connection.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes that the client may still send; they are read because the kernel discards the answer of a socket that has unread bytes.
const REST: u64 = 64 << 10;

/// Answers the first call with this message, and ends the connection.
///
/// # Errors
/// The client sent no call within 5 s, or does not read.
pub fn refuse(client: &UnixStream, message: &str) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(LIMIT))?;
    client.set_write_timeout(Some(LIMIT))?;
    let mut head = [0; HEAD];
    let mut stream = client;
    stream.read_exact(&mut head)?;
    let call = Header::parse(&head).map_err(io::Error::other)?;
    let reply = failure::reply(&call, OPERATION_FAILED, message);
    stream.write_all(&reply.bytes)?;
    client.shutdown(Shutdown::Write)?;
    io::copy(&mut stream.take(REST), &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::packet::{CALL, ERROR, REMOTE, REMOTE_VERSION, REPLY};

    fn call(length: usize) -> Vec<u8> {
        let header = Header {
            length: u32::try_from(length).expect("a length"),
            program: REMOTE,
            version: REMOTE_VERSION,
            procedure: 66,
            kind: CALL,
            serial: 7,
            status: 0,
        };
        let mut bytes = header.bytes().to_vec();
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn first_call_is_answered_with_the_message() {
        let (client, own) = UnixStream::pair().expect("a pair");
        let refused = thread::spawn(move || refuse(&own, "not here"));
        let mut stream = &client;
        stream.write_all(&call(HEAD + 100)).expect("written");
        client.shutdown(Shutdown::Write).expect("ended");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("a reply");
        let head = reply[..HEAD].try_into().expect("a head");
        let header = Header::parse(head).expect("a header");
        assert_eq!(header.size(), reply.len());
        assert_eq!(
            (header.kind, header.status, header.serial),
            (REPLY, ERROR, 7)
        );
        assert!(String::from_utf8_lossy(&reply).contains("not here"));
        refused.join().expect("ended").expect("answered");
    }

    #[test]
    fn client_that_sends_no_call_gets_no_answer() {
        for bytes in [&[][..], &[0xff; HEAD]] {
            let (client, own) = UnixStream::pair().expect("a pair");
            (&client).write_all(bytes).expect("written");
            client.shutdown(Shutdown::Write).expect("ended");
            refuse(&own, "not here").expect_err("no call");
        }
    }
}
