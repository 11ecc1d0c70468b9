//! Windows: nobody can ask yet. Its named pipes would be the way.
//! Knows nothing.

use std::io;
use std::path::Path;

use crossbeam_channel::{Receiver, never};

use super::Order;
use crate::trouble::Trouble;

/// What nobody asks.
#[derive(Debug)]
pub(crate) struct Orders(Receiver<Order>);

impl Orders {
    /// Where nothing arrives.
    pub(crate) fn receiver(&self) -> &Receiver<Order> {
        &self.0
    }
}

/// Listens for nobody.
pub(crate) fn listen(_: &Path) -> Orders {
    Orders(never())
}

/// Says that the command is not there.
///
/// # Errors
/// Always.
pub(crate) fn disconnect(_: &Path, _: &str) -> Result<(), Trouble> {
    Err(Trouble::system("disconnect a client", io::Error::other("the command is not there on Windows yet")))
}
