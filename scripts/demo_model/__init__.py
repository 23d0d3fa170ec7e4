"""How the demo model is made: drawings, autoencoder, flow, export."""
