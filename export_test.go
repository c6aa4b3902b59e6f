package flagstone

// Waiting returns how many lookups of this handle have had to wait for a load.
func (c *Cache) Waiting() uint64 { return c.loads.waits.Load() }
