//! The whole, proved. One binary, because linking many costs every contributor minutes.

mod tidy;
