"""Couriers: ways to move batches between two spools. See :mod:`bsmtp_batch.courier.contract`."""
