//! What an operator sees and changes at run time: the shapes that the API, the commands and the journal share.

pub mod view;
