"""What both ends of a hand-over do, whatever carries the batches: parcels, receipts, taking in, letting go.

Stands between the stages (couriers, ``receive``) and the spool; no stage imports another for it.
"""
