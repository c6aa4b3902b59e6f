package flagstone_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// product is what a query of the database returns.
type product struct {
	Name  string
	Cents int
}

// query stands for one that takes long.
func query(_ context.Context, id string) (product, error) {
	fmt.Println("querying", id)
	return product{"Teapot", 1990}, nil
}

// The result of a query, once for all processes that open the cache by one name.
// Private is for this example.
func Example_query() {
	ctx := context.Background()
	cache, err := flagstone.Open(ctx, "shop", flagstone.Options{Private: true})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	products := flagstone.NewTyped(cache.Namespace("product:v1"), flagstone.JSON[product]())
	for range 2 {
		p, err := products.GetOrLoad(ctx, "4711", func(ctx context.Context) (product, flagstone.Item, error) {
			p, err := query(ctx, "4711")
			return p, flagstone.Item{TTL: time.Minute, StaleFor: time.Hour}, err
		})
		fmt.Println(p, err)
	}
	// Output:
	// querying 4711
	// {Teapot 1990} <nil>
	// {Teapot 1990} <nil>
}
