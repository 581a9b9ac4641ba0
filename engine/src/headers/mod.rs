//! What headers may come in, and which are dropped in every spelling.
