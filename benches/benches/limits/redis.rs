//! Redis as a seller of list elements, with every change synced before its answer, and once a second.

use benches::process::{Child, Result};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// Starts one with an `appendfsync` policy, filled; none if Redis is not installed, and says so.
pub(crate) fn start(folder: &Path, policy: &str) -> Result<Option<Child>> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        println!("Redis is left out: redis-server is not installed (Debian: apt-get install redis-server)");
        return Ok(None);
    }
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = folder.join(policy);
    std::fs::create_dir(&folder)?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--maxclients", "12000", "--appendonly", "yes"]);
    command.args(["--appendfsync", policy, "--port", &address.port().to_string(), "--dir"]).arg(folder);
    let child = Child::start(command, |line| line.contains("Ready to accept").then_some(address))?;
    fill(address)?;
    Ok(Some(child))
}

fn fill(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut command = b"*1002\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n".to_vec();
    for value in 0..1000 {
        write!(command, "$16\r\n{value:016}\r\n")?;
    }
    let mut reader = stream.try_clone()?;
    let counting = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut left, mut buffer) = (ROUNDS, vec![0; 65_536]);
        while left > 0 {
            let read = reader.read(&mut buffer)?;
            left -= buffer[..read].iter().filter(|byte| **byte == b'\n').count().min(left);
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    });
    for _ in 0..ROUNDS {
        stream.write_all(&command)?;
    }
    counting.join().map_err(|_| "the counting thread panicked")??;
    Ok(())
}

/// Of a thousand values each.
const ROUNDS: usize = 12_000;
