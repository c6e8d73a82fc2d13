//! The relay alone, with a script in the place of the server and scripts in the place of terminals.

mod carried;
mod ends;
mod hostile;
mod script;
