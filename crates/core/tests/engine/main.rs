//! The engine as the world sees it: through [`postrider_core::executor`], over a world in memory.

mod bench;
mod world;

mod gates;
mod life;
mod order;
mod push;
mod random;
mod recovery;
mod refusal;
mod waiting;
