//! Properties of generated conversations.
