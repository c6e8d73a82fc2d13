//! The client's way to its seller: connect, log in, ask once, give up and come back.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

use ring::rand::SecureRandom as _;

use crate::client::connection::{Connection, Fault, Incoming};
use crate::client::{Client, ClientError, SaleId, Store};
use crate::control::{ByeReason, ErrorCode};
use crate::message::{
    DeclineReason, Login, Outcome, Reply, Request, SellerId, SequenceState, Settle, SettleAction, WINDOW,
    Welcome,
};
use crate::session::SessionError;

/// A connection that is logged in.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) welcome: Welcome,
    pub(super) next_sequence: u64,
    /// Whether the login was answered.
    resolved: bool,
}

impl<S: Store> Client<S> {
    /// Asks once; a connection that does not bring the answer is given up.
    pub(super) fn exchange_once(
        &mut self,
        id: Option<SaleId>,
        request: &Request,
        until: Instant,
    ) -> Result<Reply, ClientError> {
        let connected = self.link(until)?.welcome.seller;
        if let Some(id) = id.filter(|id| id.seller != connected) {
            self.await_resolved(until)?;
            return self.ask_abroad(id, connected, request, until);
        }
        let until = until.min(Instant::now() + self.config.reply_timeout);
        let reply = self.request(request, until);
        reply.map_err(|fault| self.give_up(fault))
    }

    /// Asks the seller of a sale through the one that is connected. What cannot be asked now, or is settled, is an
    /// [`ClientError::OtherSeller`].
    fn ask_abroad(
        &mut self,
        id: SaleId,
        connected: SellerId,
        request: &Request,
        until: Instant,
    ) -> Result<Reply, ClientError> {
        let SaleId { seller, sequence } = id;
        let elsewhere = ClientError::OtherSeller { sale: seller, connected };
        let action = match request {
            _ if self.settled.iter().any(|(sale, _)| sale.id == id) => return Err(elsewhere),
            Request::Vend(_) | Request::Reprint { .. } => SettleAction::Pin,
            Request::Confirm { .. } => SettleAction::Confirm,
            Request::Void { .. } => SettleAction::Void,
            _ => SettleAction::Status,
        };
        let suite = self.config.suite;
        let settle = Request::Settle(Settle { seller, sequence, action, suite });
        let until = until.min(Instant::now() + self.config.reply_timeout);
        let reply = self.request(&settle, until).map_err(|fault| self.give_up(fault))?;
        let Reply::Settled(settled) = reply else { return Err(ClientError::WrongReply) };
        if (settled.seller, settled.sequence) != (seller, sequence) {
            return Err(ClientError::WrongReply);
        }
        let (state, reference) = (settled.state, settled.reference);
        match state {
            SequenceState::Sold | SequenceState::Confirmed if action == SettleAction::Pin => {
                let sold = settled.sealed.open(&self.config.key, suite, seller, sequence);
                sold.map(Reply::Sold).map_err(|_| elsewhere)
            }
            SequenceState::Declined | SequenceState::Blocked if action == SettleAction::Pin => {
                Ok(Reply::Declined { sequence, reason: DeclineReason::Blocked })
            }
            SequenceState::InDoubt | SequenceState::Open => Err(elsewhere),
            _ => Ok(Reply::State { sequence, state, reference }),
        }
    }

    /// Waits until the login is answered: what it says of other sellers' sales is then known.
    fn await_resolved(&mut self, until: Instant) -> Result<(), ClientError> {
        while let Some(link) = self.link.as_mut().filter(|link| !link.resolved) {
            match link.connection.receive(until) {
                Ok((_, Reply::Resolved(resolved))) => self.resolved(resolved.list())?,
                Ok(_) => {}
                Err(fault) => return Err(self.give_up(fault)),
            }
        }
        Ok(())
    }

    /// One request and its reply; the login's answer may come in between.
    fn request(&mut self, request: &Request, until: Instant) -> Result<Reply, Fault> {
        let gone = || Fault::Io(io::Error::from(io::ErrorKind::NotConnected));
        let link = self.link.as_mut().ok_or_else(gone)?;
        let asked = link.connection.send(request, until)?;
        loop {
            let link = self.link.as_mut().ok_or_else(gone)?;
            match link.connection.receive(until)? {
                (_, Reply::Resolved(resolved)) => {
                    self.resolved(resolved.list()).map_err(|error| Fault::Io(io::Error::other(error)))?;
                }
                (correlation, reply) if correlation == asked => return Ok(reply),
                _ => {}
            }
        }
    }

    /// The connection, made and logged in if there is none.
    pub(super) fn link(&mut self, until: Instant) -> Result<&mut Link, ClientError> {
        let mut unreachable = None;
        while self.link.is_none() {
            let wait = self.connect_after.saturating_duration_since(Instant::now());
            self.pause(wait, until);
            let attempt_until = until.min(Instant::now() + self.config.connect_timeout);
            let opened = self.open(attempt_until).and_then(|link| {
                self.link = Some(link);
                self.void_unknown(attempt_until)
            });
            let Err(fault) = opened else { break };
            match self.give_up(fault) {
                error @ ClientError::Unreachable(_) => unreachable = Some(error),
                ClientError::Deadline => {}
                hopeless => return Err(hopeless),
            }
            if Instant::now() >= until {
                return Err(unreachable.unwrap_or(ClientError::Deadline));
            }
        }
        Ok(self.link.as_mut().expect("the loop ends with a link"))
    }

    /// Connects to the next address and logs in, without waiting for the login's answer.
    fn open(&mut self, until: Instant) -> Result<Link, Fault> {
        let mut random = [0; 32];
        self.random.fill(&mut random).map_err(|_| Fault::Io(io::Error::other("no randomness")))?;
        let address = match &self.kept {
            Some((address, _)) => *address,
            None => {
                let known = self.addresses();
                let address = known.get(self.attempts % known.len().max(1));
                let address = *address.ok_or_else(|| Fault::Io(io::ErrorKind::AddrNotAvailable.into()))?;
                self.attempts += 1;
                self.kept = Some((address, Incoming::connect(address, until)?));
                address
            }
        };
        let mut stream = self.kept.take().map(|(_, stream)| stream);
        let opened = Connection::open(&mut stream, &self.config, &random, until);
        // What gives it up decides whether it is used again.
        self.kept = stream.map(|stream| (address, stream));
        let (mut connection, welcome) = opened?;
        if welcome.key_epoch != self.config.key_epoch
            || welcome.window_base > welcome.next_sequence
            || welcome.next_sequence - welcome.window_base > WINDOW
        {
            return Err(Fault::Peer(SessionError::OutOfOrder));
        }
        let mut login = Login::EMPTY;
        for (place, sale) in login.unresolved.iter_mut().zip(&self.state.sales) {
            *place = (sale.id.seller, sale.id.sequence);
            login.count += 1;
        }
        connection.send(&Request::Login(Box::new(login)), until)?;
        self.attempts = 0;
        let millis = |ms: u32| Duration::from_millis(ms.into());
        self.back_off = (millis(welcome.back_off_min_ms), millis(welcome.back_off_max_ms));
        let own = self.state.sales.iter().filter(|sale| sale.id.seller == welcome.seller);
        let next_sequence = own.map(|sale| sale.id.sequence + 1).fold(welcome.next_sequence.max(1), u64::max);
        // The address that works comes first from now on, then those the seller named.
        self.learned = welcome.addresses.sockets().collect();
        if self.learned != self.state.addresses {
            self.state.addresses.clone_from(&self.learned);
            self.store.save(&self.state).map_err(|error| Fault::Io(io::Error::other(error)))?;
        }
        self.learned.insert(0, address);
        Ok(Link { connection, welcome, next_sequence, resolved: false })
    }

    /// Voids what the seller holds open and this terminal does not know: it lost its storage, and must never print
    /// an earlier customer's PIN.
    fn void_unknown(&mut self, until: Instant) -> Result<(), Fault> {
        let Some(Link { welcome, .. }) = &self.link else { return Ok(()) };
        let (seller, open) = (welcome.seller, welcome.window_base..welcome.next_sequence);
        for sequence in open {
            let known = self.state.sales.iter().any(|sale| sale.id == SaleId { seller, sequence });
            if !known {
                self.request(&Request::Void { sequence }, until)?;
            }
        }
        Ok(())
    }

    /// Takes in the answer to a login.
    fn resolved(&mut self, outcomes: &[Outcome]) -> Result<(), ClientError> {
        if let Some(link) = &mut self.link {
            link.resolved = true;
        }
        for outcome in outcomes.iter().filter(|outcome| outcome.state.is_final()) {
            let id = SaleId { seller: outcome.seller, sequence: outcome.sequence };
            if let Some(sale) = self.state.sales.iter().find(|sale| sale.id == id) {
                self.settled.push((*sale, *outcome));
                self.forget(id)?;
            }
        }
        Ok(())
    }

    /// Ends the session because of a fault, and the connection but for bye *renew*; says what it means to the caller.
    fn give_up(&mut self, fault: Fault) -> ClientError {
        let is_renewed = matches!(&fault, Fault::Bye(bye) if bye.reason == ByeReason::Renew);
        match self.link.take() {
            Some(link) if is_renewed => {
                let address = self.learned.first().copied();
                self.kept = address.map(|address| (address, link.connection.into_stream()));
            }
            None if is_renewed => {}
            _ => self.kept = None,
        }
        let mut longest_jitter = 0.5;
        let (least, most) = self.back_off;
        let rounds = self.attempts.saturating_sub(1) / self.addresses().len().max(1);
        let mut wait = least.saturating_mul(1 << rounds.min(10)).min(most);
        let error = match fault {
            Fault::Io(error) => ClientError::Unreachable(error),
            Fault::Deadline => ClientError::Deadline,
            Fault::Peer(error) => ClientError::Peer(error),
            Fault::Bye(bye) => {
                wait = Duration::from_millis(bye.wait_ms.into());
                if is_renewed {
                    longest_jitter = 1.0;
                } else {
                    wait = wait.max(least);
                }
                if bye.addresses.count > 0 {
                    self.learned = bye.addresses.sockets().collect();
                    self.attempts = 0;
                }
                ClientError::Unreachable(io::Error::other(std::format!("sent away: {:?}", bye.reason)))
            }
            Fault::Error(notice) => match notice.code {
                ErrorCode::Timeout | ErrorCode::Limit => ClientError::Deadline,
                code => ClientError::Rejected(code),
            },
        };
        let mut jitter = [0];
        let _ = self.random.fill(&mut jitter);
        self.connect_after =
            Instant::now() + wait + wait.mul_f64(f64::from(jitter[0]) / 256.0 * longest_jitter);
        error
    }

    /// Where to connect: what was learned since the start first, then what was configured, then what an earlier start learned.
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for address in self.learned.iter().chain(&self.config.addresses).chain(&self.state.addresses) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    pub(super) fn pause(&self, wait: Duration, until: Instant) {
        thread::sleep(wait.min(until.saturating_duration_since(Instant::now())));
    }
}
