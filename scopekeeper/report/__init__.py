"""One HTML page of what ended, why, and what runs. Pure: data in, text out."""
