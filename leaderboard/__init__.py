"""From records to a ranking and a static page. It reads records and knows nothing of training."""
