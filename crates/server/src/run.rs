//! The driver: turns the world into inputs and effects into I/O.
